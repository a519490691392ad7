// liboctet_mpi.so: see mpi_abi.h.
#include <mpi.h>

#include <cstring>
#include <vector>

#include "src/dist/mpi_abi.h"

struct OctetMpiRequest {
  MPI_Request request = MPI_REQUEST_NULL;
  std::vector<int> counts, offsets, more_counts, more_offsets;  // MPI reads them until the end
  bool failed = false;
};

namespace {

MPI_Comm all = MPI_COMM_NULL, on_host = MPI_COMM_NULL, host_leaders = MPI_COMM_NULL;

MPI_Comm of(OctetMpiGroup group) {
  return group == kOctetMpiAll ? all : group == kOctetMpiHost ? on_host : host_leaders;
}

int size_of(MPI_Comm comm) {
  int size = 0;
  MPI_Comm_size(comm, &size);
  return size;
}

int rank_in(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

int start(int* rank, int* size) {
  int initialized = 0, provided = 0;
  MPI_Initialized(&initialized);
  if (!initialized && MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != 0)
    return 1;
  // Errors come back instead of ending the process.
  if (MPI_Comm_dup(MPI_COMM_WORLD, &all) != 0) return 1;
  MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN);
  *rank = rank_in(all);
  *size = size_of(all);
  return 0;
}

int host(int* rank, int* size) {
  if (MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, rank_in(all), MPI_INFO_NULL, &on_host) != 0)
    return 1;
  MPI_Comm_set_errhandler(on_host, MPI_ERRORS_RETURN);
  *rank = rank_in(on_host);
  *size = size_of(on_host);
  return 0;
}

void* share(size_t bytes) {
  void* memory = nullptr;
  MPI_Win window;
  // One piece, rank 0's, so that it is in one place for all.
  const bool first = rank_in(on_host) == 0;
  MPI_Info info;
  MPI_Info_create(&info);
  if (MPI_Win_allocate_shared(first ? static_cast<MPI_Aint>(bytes + 4096) : 0, 1, info, on_host,
                              static_cast<void*>(&memory), &window) != 0)
    return nullptr;
  MPI_Info_free(&info);
  MPI_Aint size = 0;
  int unit = 0;
  MPI_Win_shared_query(window, 0, &size, &unit, static_cast<void*>(&memory));
  // Windows begin where Open MPI likes; the offset is the same on all ranks, pages are mapped
  // whole.
  const size_t past = reinterpret_cast<uintptr_t>(memory) % 4096;
  memory = static_cast<char*>(memory) + (past == 0 ? 0 : 4096 - past);
  if (first) std::memset(memory, 0, bytes);
  MPI_Barrier(on_host);
  return memory;
}

int leaders(int* rank, int* size) {
  const bool leads = rank_in(on_host) == 0;
  if (MPI_Comm_split(all, leads ? 0 : MPI_UNDEFINED, rank_in(all), &host_leaders) != 0) return 1;
  *rank = -1;
  if (leads) {
    MPI_Comm_set_errhandler(host_leaders, MPI_ERRORS_RETURN);
    *rank = rank_in(host_leaders);
    *size = size_of(host_leaders);
  }
  return MPI_Bcast(size, 1, MPI_INT, 0, on_host);
}

template <typename Begin>
OctetMpiRequest* begin(const Begin& call) {
  auto* r = new OctetMpiRequest;
  r->failed = call(*r) != MPI_SUCCESS;
  return r;
}

OctetMpiRequest* sum_int32(OctetMpiGroup group, int32_t* values, size_t count) {
  return begin([&](OctetMpiRequest& r) {
    return MPI_Iallreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_INT32_T, MPI_SUM,
                          of(group), &r.request);
  });
}

void sum_int32_now(OctetMpiGroup group, int32_t* values, size_t count) {
  MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_INT32_T, MPI_SUM, of(group));
}

OctetMpiRequest* maximum_float(OctetMpiGroup group, float* values, size_t count) {
  return begin([&](OctetMpiRequest& r) {
    return MPI_Iallreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_MAX,
                          of(group), &r.request);
  });
}

OctetMpiRequest* all_gather(OctetMpiGroup group, const float* mine, size_t count,
                            float* everything) {
  return begin([&](OctetMpiRequest& r) {
    return MPI_Iallgather(mine, static_cast<int>(count), MPI_FLOAT, everything,
                          static_cast<int>(count), MPI_FLOAT, of(group), &r.request);
  });
}

OctetMpiRequest* all_to_all(OctetMpiGroup group, const float* values, const int* cuts,
                            float* parts) {
  return begin([&](OctetMpiRequest& r) {
    const int size = size_of(of(group)), rank = rank_in(of(group));
    const int own = cuts[rank + 1] - cuts[rank];
    for (int other = 0; other < size; ++other) {
      r.counts.push_back(cuts[other + 1] - cuts[other]);
      r.offsets.push_back(cuts[other]);
      r.more_counts.push_back(own);
      r.more_offsets.push_back(own * other);
    }
    return MPI_Ialltoallv(values, r.counts.data(), r.offsets.data(), MPI_FLOAT, parts,
                          r.more_counts.data(), r.more_offsets.data(), MPI_FLOAT, of(group),
                          &r.request);
  });
}

OctetMpiRequest* all_gather_parts(OctetMpiGroup group, float* values, const int* cuts) {
  return begin([&](OctetMpiRequest& r) {
    for (int other = 0; other < size_of(of(group)); ++other) {
      r.counts.push_back(cuts[other + 1] - cuts[other]);
      r.offsets.push_back(cuts[other]);
    }
    return MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, values, r.counts.data(), r.offsets.data(),
                           MPI_FLOAT, of(group), &r.request);
  });
}

// Parts of so many values, one after the other.
void place(OctetMpiGroup group, const int* counts, OctetMpiRequest& r) {
  int at = 0;
  for (int other = 0; other < size_of(of(group)); ++other) {
    r.counts.push_back(counts[other]);
    r.offsets.push_back(at);
    at += counts[other];
  }
}

OctetMpiRequest* all_gather_bytes(OctetMpiGroup group, const void* mine, const int* counts,
                                  void* everything) {
  return begin([&](OctetMpiRequest& r) {
    place(group, counts, r);
    return MPI_Iallgatherv(mine, counts[rank_in(of(group))], MPI_BYTE, everything, r.counts.data(),
                           r.offsets.data(), MPI_BYTE, of(group), &r.request);
  });
}

OctetMpiRequest* gather_parts(OctetMpiGroup group, const float* mine, const int* counts,
                              float* everything) {
  return begin([&](OctetMpiRequest& r) {
    place(group, counts, r);
    return MPI_Igatherv(mine, counts[rank_in(of(group))], MPI_FLOAT, everything, r.counts.data(),
                        r.offsets.data(), MPI_FLOAT, 0, of(group), &r.request);
  });
}

OctetMpiRequest* broadcast(OctetMpiGroup group, int32_t* values, size_t count) {
  return begin([&](OctetMpiRequest& r) {
    return MPI_Ibcast(values, static_cast<int>(count), MPI_INT32_T, 0, of(group), &r.request);
  });
}

int done(OctetMpiRequest* r) {
  int ended = 0;
  if (r->failed || MPI_Test(&r->request, &ended, MPI_STATUS_IGNORE) != MPI_SUCCESS) return -1;
  if (ended) delete r;
  return ended;
}

void abort_all(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

void finish() { MPI_Finalize(); }

}  // namespace

extern "C" const OctetMpi* octet_mpi() {
  static const OctetMpi functions = {start,
                                     host,
                                     share,
                                     leaders,
                                     sum_int32,
                                     maximum_float,
                                     all_gather,
                                     all_to_all,
                                     all_gather_parts,
                                     gather_parts,
                                     all_gather_bytes,
                                     broadcast,
                                     sum_int32_now,
                                     done,
                                     abort_all,
                                     finish};
  return &functions;
}
