// The verdict enumeration, made from verdicts.def.
#ifndef SLUICE_ABI_VERDICT_H
#define SLUICE_ABI_VERDICT_H

#include "dataplane/abi/portability.h"

SLUICE_NAMESPACE_BEGIN

enum Verdict {
#define SLUICE_VERDICT(identifier, class_, metric, help) kVerdict##identifier,
#include "dataplane/abi/verdicts.def"
#undef SLUICE_VERDICT
  kVerdictCount,
  // Not a verdict: the stage has found nothing that ends the packet's way; the next stage goes on.
  kVerdictUndecided = 255
};

enum VerdictClass { kVerdictClassForward, kVerdictClassReply, kVerdictClassPass, kVerdictClassDrop };

// Forward verdicts come first in the list, then reply, pass and drop (a test holds the list to it).
SLUICE_INLINE enum VerdictClass verdict_class(enum Verdict verdict) {
  if (verdict <= kVerdictForwardCheck) return kVerdictClassForward;
  if (verdict <= kVerdictReplyTooBig) return kVerdictClassReply;
  if (verdict <= kVerdictPassNoSnapshot) return kVerdictClassPass;
  return kVerdictClassDrop;
}

SLUICE_NAMESPACE_END

#endif
