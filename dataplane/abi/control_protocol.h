// The control socket between sluiced and sluice-dataplane: Unix SOCK_SEQPACKET, one JSON object per
// message, file descriptors beside it (SCM_RIGHTS). The client asks, the server answers in order.
//
//   request   {"protocol":1, "id":N, "request":NAME, ...}
//   answer    {"protocol":1, "id":N, "ok":true, ...}  or  {"protocol":1, "id":N, "ok":false, "error":TEXT}
//
//   NAME         passes              answers
//   hello                            engine, version, abi {snapshot, connections, counters}, revision
//   publish      snapshot memfd      revision         (refused: the old snapshot stays in force)
//   snapshot                         revision, and the current snapshot's memfd unless revision is 0
//   status                           engine, ports, workers, next_hops, memory: for people to read
//   counters                         read-only descriptor of the counter region
//   connections                      read-only descriptor of the connection region
//   explain      frame, length,      verdict, class, service, backend, worker, workers, engine, snapshot, and
//                worker              stages: what each finds about such a frame now; nothing is changed by it
//
// `frame` is the first bytes of a received frame as hex digits, `length` of how many it is (left out: of
// those that are there), `worker` who gets it (left out: whoever has its connection, else the first).
//
// A message of another protocol version is answered with an error that names both versions.
#ifndef SLUICE_ABI_CONTROL_PROTOCOL_H
#define SLUICE_ABI_CONTROL_PROTOCOL_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

enum ControlProtocol { kControlProtocolVersion = 1, kControlMessageMaxSize = 256 * 1024 };

enum ExplainLimits {
  kExplainMaxFrameSize = 1024,     // bytes of a frame: all headers that are looked at are among them
  kExplainMaxLength = 65535 + 22,  // bytes: an IP packet behind two VLAN tags
};

#define SLUICE_CONTROL_SOCKET_PATH "/run/sluice/dataplane.sock"

SLUICE_NAMESPACE_END

#endif
