"""x"""
from __future__ import annotations
from functools import lru_cache
import numpy as np
from numba import njit, literally
from fedkd.transport.lanes import rescale_tile, lanes

@lru_cache
def solver(height, width):
    @njit(nogil=True, error_model="numpy")
    def _half(packed, x, own, target, sums, share, error, labels):
        for l in range(error.size):
            error[l] = 0
        for row in range(0, own.size // error.size, height):
            rescale_tile(packed, x, own, target, sums, share, error, row, labels, height)

    @njit(nogil=True, error_model="numpy",cache=True)
    def solve_pairs(a, b, start, forth, back, teachers, iterations, tolerance, chunk
                     , rows_out, cols_out, count, error_out):
        pairs, labels = b.shape
        size = (labels + height - 1) // height * height * width
        one = np.zeros(width, a.dtype)[0:1]
        x_a = np.zeros(size, a.dtype); x_b = np.zeros(size, a.dtype)
        u = np.zeros(size, a.dtype); v = np.zeros(size, a.dtype)
        s = np.zeros(size, a.dtype); q = np.zeros(size, a.dtype)
        share = np.zeros(width, a.dtype); err = np.zeros(width, a.dtype)
        ref = np.zeros(width, a.dtype)
        relax = np.zeros(width, a.dtype)
        pair = np.full(width, -1, np.int64)
        steps = np.zeros(width, np.int64)
        closing = np.zeros(width, np.bool_)
        queue = 0
        active = 0
        for l in range(width):
            if queue < pairs:
                for i in range(labels):
                    m = a[queue // teachers, i]
                    x_a[i * width + l] = m
                    x_b[i * width + l] = b[queue, i]
                    v[i * width + l] = b[queue, i]
                    u[i * width + l] = m * start[queue, i] if start.size else m
                pair[l] = queue
                queue += 1
                active += 1
        while active > 0:
            for _ in range(chunk):
                _half(back, u, v, x_b, q, share, err, labels)
                _half(forth, v, u, x_a, s, share, err, labels)
            for l in range(width):
                if pair[l] < 0:
                    continue
                steps[l] += chunk
                e = err[l]
                k = steps[l]
                if (not (e > tolerance) and (closing[l] or share[l] == 0 or e != e)) or k >= iterations:
                    p = pair[l]
                    for i in range(labels):
                        rows_out[p, i] = s[i * width + l]
                        cols_out[p, i] = q[i * width + l]
                    count[p] = k
                    error_out[p] = e
                    closing[l] = False
                    share[l] = 0
                    relax[l] = 0
                    steps[l] = 0
                    if queue < pairs:
                        for i in range(labels):
                            m = a[queue // teachers, i]
                            x_a[i * width + l] = m
                            x_b[i * width + l] = b[queue, i]
                            v[i * width + l] = b[queue, i]
                            u[i * width + l] = m * start[queue, i] if start.size else m
                        pair[l] = queue
                        queue += 1
                    else:
                        pair[l] = -1
                        active -= 1
                    continue
                if not (e > tolerance):
                    closing[l] = True
                    share[l] = 0
                    continue
                if closing[l]:
                    closing[l] = False
                    share[l] = relax[l]
                if k == 2:
                    ref[l] = e
                elif k % 4 == 0:
                    lam = e / ref[l]
                    ref[l] = e
                    lam = np.sqrt(lam)
                    if k != 4 or chunk == 4:
                        lam = np.sqrt(lam)
                    if k == 4 and chunk == 4:
                        continue
                    w = relax[l]
                    if lam > 1:
                        relax[l] = w * np.float32(0.7)
                    elif lam > w:
                        rho = (lam + w) * (lam + w) / (lam * (1 + w) * (1 + w))
                        if rho > 0.9995:
                            rho = 0.9995
                        new = 2 / (1 + np.sqrt(1 - rho)) - 1
                        relax[l] = min(max(w, new), 0.75)
                    share[l] = relax[l]

    return solve_pairs

def pack(G, R):
    K=len(G); T=-(-K//R)
    P=np.zeros((T*R,K),G.dtype); P[:K]=G
    return np.ascontiguousarray(P.reshape(T,R,K).transpose(0,2,1)).reshape(-1)
