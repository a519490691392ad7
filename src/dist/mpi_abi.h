// The functions of MPI that Octet uses, as plain C: liboctet_mpi.so (src/dist/mpi/) holds them and
// nothing else, and is loaded only where there is more than one rank. So the program itself needs
// no MPI to run, and MPI's types stay out of it.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// A collective that has begun; done() ends it.
struct OctetMpiRequest;

// Who takes part in a collective.
enum OctetMpiGroup { kOctetMpiAll, kOctetMpiHost, kOctetMpiLeaders };

struct OctetMpi {
  // Joins the job that mpirun (or srun, ...) started. Nonzero when there is none.
  int (*start)(int* rank, int* size);
  // The ranks on this rank's host, and zeroed memory that all of them share (null: none to have).
  int (*host)(int* rank, int* size);
  void* (*share)(size_t bytes);
  // The first rank of every host. Its number among them, -1 for the others; all get their size.
  int (*leaders)(int* rank, int* size);
  // All but the second buffer of gather (rank 0 only) are in and out.
  OctetMpiRequest* (*sum_int32)(OctetMpiGroup group, int32_t* values, size_t count);
  OctetMpiRequest* (*maximum_float)(OctetMpiGroup group, float* values, size_t count);
  // Every rank gets `count` values of each other.
  OctetMpiRequest* (*all_gather)(OctetMpiGroup group, const float* mine, size_t count, float* all);
  // Rank r of the group gets part r of every rank's values, which begins at `cuts`[r] [size + 1].
  OctetMpiRequest* (*all_to_all)(OctetMpiGroup group, const float* values, const int* cuts,
                                 float* parts);
  // Part r [cuts] of values, from rank r to all.
  OctetMpiRequest* (*all_gather_parts)(OctetMpiGroup group, float* values, const int* cuts);
  OctetMpiRequest* (*gather_parts)(OctetMpiGroup group, const float* mine, const int* counts,
                                   float* all);
  // counts[r] bytes of every rank r, one after the other.
  OctetMpiRequest* (*all_gather_bytes)(OctetMpiGroup group, const void* mine, const int* counts,
                                       void* all);
  OctetMpiRequest* (*broadcast)(OctetMpiGroup group, int32_t* values, size_t count);
  // As sum_int32, in MPI's quickest way, which waits for ever: to measure against.
  void (*sum_int32_now)(OctetMpiGroup group, int32_t* values, size_t count);
  // 1: ended (the request is gone), 0: not yet, -1: failed.
  int (*done)(OctetMpiRequest* request);
  // Ends all ranks of the job at once.
  void (*abort)(int code);
  void (*finish)();
};

const OctetMpi* octet_mpi();
}
