// What a monitoring system reads: Prometheus' text format.
#ifndef SLUICE_CONTROLPLANE_API_METRICS_H
#define SLUICE_CONTROLPLANE_API_METRICS_H

#include <map>
#include <string>

#include "controlplane/api/control.h"
#include "dataplane/abi/result.h"

namespace sluice::api {

inline constexpr const char *kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/// From the query's "services", "pools", "backends" (auto, all or none) and "pool". Errors name the parameter
/// and the value.
Result<MetricsFilter> parse_metrics_filter(const std::map<std::string, std::string> &query);

/// Text format 0.0.4, with help and type of each family; docs/metrics.md lists them.
std::string render_metrics(const MetricsView &view);

}  // namespace sluice::api

#endif
