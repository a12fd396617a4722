// The configuration becomes another one: the file read again, a text by the API, an earlier revision.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "controlplane/config/config_loader.h"
#include "controlplane/config/document_changes.h"
#include "controlplane/discovery/merge.h"
#include "controlplane/sluiced/reconciler.h"

namespace sluice {

namespace {

constexpr std::chrono::seconds kRollBackInterval{10};  // between tries

}  // namespace

api::ChangeResult Reconciler::reload(const api::Terms &terms) {
  Result<std::string> text = read_config_file(config_path_);
  NextConfiguration next{
      .change = {.action = "reload", .subject = config_path_.native(), .changes = {}, .is_of_file = true},
      .name = config_path_.native(),
      .text = {}};
  if (!text.ok())
    return refuse_configuration(
        next, terms, {{.file = next.name, .field = {}, .value = {}, .message = text.error().message}});
  next.text = std::move(text).value();
  return change_configuration(std::move(next), terms);
}

api::ChangeResult Reconciler::apply_document(const std::string &document, const api::Terms &terms) {
  if (document == history_.document() && !history_.confirmation() && !history_.is_unsaved())
    return unchanged("that is the configuration already");
  return change_configuration({.change = {.action = "apply", .subject = {}, .changes = {}},
                               .name = terms.document_name,
                               .text = document},
                              terms);
}

api::ChangeResult Reconciler::roll_back(uint64_t revision, const api::Terms &terms) {
  const Result<std::optional<Revision>> found = history_.revision(revision);
  if (!found.ok()) return {.outcome = Outcome::kRefused, .message = found.error().message};
  Result<std::optional<std::string>> document = history_.document_of(revision);
  if (!document.ok()) return {.outcome = Outcome::kRefused, .message = document.error().message};
  const std::optional<Confirmation> waits = history_.confirmation();
  if (waits && waits->revision == revision) {
    return {.outcome = Outcome::kConflict,
            .message = fmt::format(
                "revision {0} is the one that waits to be confirmed: sluicectl confirm {0} keeps it, "
                "sluicectl rollback {1} ends it",
                revision, waits->back_to)};
  }
  if (!document.value()) {
    return {.outcome = Outcome::kNotFound,
            .message = fmt::format("there is no configuration of a revision {}; sluicectl revisions (GET "
                                   "/v1/revisions) lists what is kept",
                                   revision)};
  }
  return change_configuration(
      {.change = {.action = "rollback",
                  .subject = fmt::format("revision {}", revision),
                  .changes = {},
                  .configuration = found.value() ? found.value()->configuration : revision},
       .name = fmt::format("revision {}", revision),
       .text = std::move(*document.value())},
      terms);
}

api::ChangeResult Reconciler::confirm(uint64_t revision, const api::Terms &terms) {
  const std::optional<Confirmation> waits = history_.confirmation();
  if (!waits) return {.outcome = Outcome::kConflict, .message = "no configuration waits to be confirmed"};
  if (waits->revision != revision) {
    return {.outcome = Outcome::kConflict,
            .message = fmt::format("revision {} waits to be confirmed, not {}", waits->revision, revision)};
  }
  if (terms.dry_run) return {.outcome = Outcome::kPlanned, .message = "it would stay"};
  if (const Status kept = history_.confirm(); !kept.ok())
    return {.outcome = Outcome::kRefused, .message = kept.error().message};
  changes_++;
  spdlog::info("revision {} is confirmed by {}", revision, terms.author);
  api::ChangeResult confirmed = unchanged("confirmed: it stays");
  if (confirmed.outcome == Outcome::kUnchanged) confirmed.outcome = Outcome::kApplied;
  confirmed.revision = revision;
  return confirmed;
}

// Nobody said in time that it may stay.
void Reconciler::end_unconfirmed(Clock::time_point now) {
  const auto left = history_.confirmation_left();
  if (!left || *left > std::chrono::seconds(0) || now < next_roll_back_) return;
  next_roll_back_ = now + kRollBackInterval;
  const Confirmation waits = *history_.confirmation();
  spdlog::warn("revision {} was not confirmed in time: back to the configuration of revision {}",
               waits.revision, waits.back_to);
  const api::ChangeResult applied = roll_back(
      waits.back_to,
      {.message = fmt::format("revision {} was not confirmed in time", waits.revision), .force = true});
  if (!applied.is_nothing()) return;
  spdlog::error("cannot go back to the configuration of revision {}, trying again: {}", waits.back_to,
                applied.message);
}

// While one is on trial, another could not be told from it afterwards: only its own end is taken.
api::ChangeResult Reconciler::change_configuration(NextConfiguration next, const api::Terms &terms) {
  const std::optional<Confirmation> waits = history_.confirmation();
  if (waits && next.change.action != "rollback") {
    api::ChangeResult conflict{
        .outcome = Outcome::kConflict,
        .message =
            fmt::format("revision {0} waits to be confirmed for another {1} s: sluicectl confirm {0} keeps "
                        "it, sluicectl rollback {2} ends it",
                        waits->revision, history_.confirmation_left()->count(), waits->back_to)};
    if (!terms.dry_run) spdlog::error("{} refused: {}", next.change.action, conflict.message);
    return conflict;
  }
  reconnect();
  LoadedConfig loaded = load_config(next.text, next.name);
  if (!loaded.ok()) return refuse_configuration(next, terms, std::move(loaded.errors));
  std::function<void()> use_prepared = [] {};
  if (preparation_) {
    Result<std::function<void()>> prepared = preparation_(*loaded.state);
    if (!prepared.ok()) {
      // "field: what is wrong with what it names, as a file"
      const std::string &why = prepared.error().message;
      const size_t colon = std::min(why.find(": "), why.size());
      return refuse_configuration(next, terms,
                                  {{.file = next.name,
                                    .field = why.substr(0, colon),
                                    .value = {},
                                    .message = why.substr(std::min(colon + 2, why.size()))}});
    }
    use_prepared = std::move(prepared).value();
  }
  next.change.changes = document_changes(history_.document(), next.text);
  return use_configuration(std::move(next), std::move(*loaded.state), use_prepared, terms);
}

api::ChangeResult Reconciler::refuse_configuration(const NextConfiguration &next, const api::Terms &terms,
                                                   std::vector<ConfigError> errors) {
  api::ChangeResult refused{.outcome = Outcome::kInvalidConfig,
                            .message = fmt::format("{} has {} error(s); the configuration of before stays",
                                                   next.name, errors.size()),
                            .errors = std::move(errors)};
  const std::string words = LoadedConfig{{}, refused.errors}.errors_to_string();
  if (terms.dry_run) return refused;
  if (next.change.is_of_file) config_problem_ = words;
  spdlog::error("{} refused, the configuration of before stays:\n{}", next.change.action, words);
  return refused;
}

// It is in no revision before the dataplane has it or is away, and in none if it refuses it.
api::ChangeResult Reconciler::use_configuration(NextConfiguration next, model::DesiredState loaded,
                                                const std::function<void()> &use_prepared,
                                                const api::Terms &terms) {
  const auto refuse = [&](api::ChangeResult refused) {
    refused.changes = next.change.changes;
    if (refused.outcome == Outcome::kPlanned) return refused;
    if (next.change.is_of_file) config_problem_ = refused.message;
    refused.message += "; the configuration of before stays";
    spdlog::error("{} refused: {}", next.change.action, refused.message);
    noted_ = true;  // what was noted before must still go out
    return refused;
  };
  const FoundPools found = wanted_found(loaded, Clock::time_point::min());
  Result<model::DesiredState> wanted = wanted_state(loaded, found);
  if (!wanted.ok()) return refuse({.outcome = Outcome::kRefused, .message = wanted.error().message});
  std::optional<api::Plan> plan;
  if (auto not_made = look_ahead(wanted.value(), known_of(wanted.value()), terms, &plan))
    return refuse(std::move(*not_made));

  const bool is_other_text =
      next.text != history_.document() || history_.confirmation() || history_.is_unsaved();
  next.change.document = next.text;
  uint64_t revision = 0;
  if (is_other_text) {
    const Result<uint64_t> begun = history_.begin_change(next.change, terms, clock_.unix_ms());
    if (!begun.ok()) return refuse({.outcome = Outcome::kRefused, .message = begun.error().message});
    revision = begun.value();
  }
  api::ChangeResult applied = change_members(std::move(wanted).value());
  if (applied.outcome == Outcome::kRefused) {
    if (is_other_text) history_.abandon();
    return refuse(std::move(applied));
  }
  if (is_other_text) {
    const uint64_t snapshot = applied.outcome == Outcome::kPending ? 0 : applied.snapshot;
    if (const Status kept = history_.commit(snapshot); !kept.ok()) {
      spdlog::error("the configuration is in force, but a restart of sluiced would not find it: {}",
                    kept.error().message);
      applied.message += "; but a restart of sluiced would not find it: " + kept.error().message;
    }
    changes_++;
    if (applied.outcome == Outcome::kUnchanged) {
      applied.outcome = Outcome::kApplied;  // another text, with the same tables
      applied.message = "in force; nothing changes for packets";
    }
  }
  if (!is_other_text && next.change.is_of_file) history_.note_file_agrees();
  applied.revision = revision;
  applied.changes = std::move(next.change.changes);
  applied.plan = std::move(plan);
  configured_ = std::move(loaded);
  used_found_ = found;
  use_prepared();
  if (discoverer_ != nullptr) discoverer_->set_sources(configured_);
  found_noted_ = true;  // of a pool that is new, what was found before
  config_problem_.clear();
  config_loaded_unix_s_ = clock_.now().unix_s;
  spdlog::info("{} by {}: the configuration is {} now: {} services, {} pools", next.change.action,
               terms.author, next.name, desired_.services.size(), desired_.pools.size());
  return applied;
}

}  // namespace sluice
