// Marks what the GPU's kernels call too.
#pragma once

#ifdef __CUDACC__
#define GATTN_HOST_DEVICE __host__ __device__
#else
#define GATTN_HOST_DEVICE
#endif
