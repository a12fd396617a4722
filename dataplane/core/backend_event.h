// What is counted of a backend by what its clients do: the same in every engine.
#ifndef SLUICE_CORE_BACKEND_EVENT_H
#define SLUICE_CORE_BACKEND_EVENT_H

#include "dataplane/abi/counters.h"

SLUICE_NAMESPACE_BEGIN

// What a backend's TCP connections do, by what their clients send (BackendCounters).
enum BackendEvent {
  kBackendNoEvent,
  kBackendOpened,        // a SYN made an entry
  kBackendProgressed,    // the client has gone on
  kBackendOpenRepeated,  // the client has not, and asks again
  kBackendReset,         // the client has broken off
};

// Counts one in the counters of its worker, who alone writes them.
SLUICE_INLINE void count_backend_event(struct BackendCounters *counters, enum BackendEvent event) {
  switch (event) {
    case kBackendNoEvent:
      break;
    case kBackendOpened:
      counters->tcp_opens += 1;
      break;
    case kBackendProgressed:
      counters->tcp_progresses += 1;
      break;
    case kBackendOpenRepeated:
      counters->tcp_repeated_opens += 1;
      break;
    case kBackendReset:
      counters->tcp_resets += 1;
      break;
  }
}

SLUICE_NAMESPACE_END

#endif
