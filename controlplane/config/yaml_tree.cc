#include "controlplane/config/yaml_tree.h"

#include <exception>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

namespace sluice {
namespace {

// yaml-cpp's way out of a parse is an exception; it is caught in parse_yaml and goes no further.
class Refused : public std::exception {
 public:
  explicit Refused(YamlFault fault) : fault_(std::move(fault)) {}
  const char *what() const noexcept override { return fault_.message.c_str(); }
  const YamlFault &fault() const { return fault_; }

 private:
  YamlFault fault_;
};

TextPlace place_of(const YAML::Mark &mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

// Builds the tree. `open_` are the lists and maps that are not closed yet, outermost first: each is
// the last child of the one before, so no vector with an open child ever grows.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take_root() { return std::move(root_); }
  std::vector<YamlFault> take_faults() { return std::move(faults_); }

  void OnDocumentStart(const YAML::Mark &) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark &mark, YAML::anchor_t anchor) override {
    note_anchor(mark, anchor);
    if (expects_key()) refuse(place_of(mark), "a key is missing in front of \":\"; write \"key: value\"");
    YamlNode &node = add(mark, YamlKind::kNull);
    // yaml-cpp marks a missing value where the next token stands: the key says more.
    if (in_map()) node.place = open_.back()->entries.back().key_place;
  }

  void OnAlias(const YAML::Mark &mark, YAML::anchor_t) override {
    note(mark, "aliases (\"*name\") are not allowed; write the value out");
    if (expects_key()) {
      add_key(mark, "");
      open_.back()->entries.back().key_is_refused = true;
    } else {
      add(mark, YamlKind::kRefused);
    }
  }

  void OnScalar(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                const std::string &value) override {
    note_anchor(mark, anchor);
    note_tag(mark, tag);
    if (expects_key()) {
      add_key(mark, value);
      return;
    }
    add(mark, YamlKind::kScalar).text = value;
  }

  void OnSequenceStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlKind::kList);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlKind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] static void refuse(TextPlace place, std::string message) {
    throw Refused({place, std::move(message)});
  }

  // What is wrong, but does not hide what follows.
  void note(const YAML::Mark &mark, std::string message) {
    if (faults_.size() == kMaxYamlFaults)
      refuse(place_of(mark), "and more of this kind; correct these first");
    faults_.push_back({place_of(mark), std::move(message)});
  }

  void note_anchor(const YAML::Mark &mark, YAML::anchor_t anchor) {
    if (anchor == 0) return;
    note(mark, "anchors (\"&name\") are not allowed; write the value out where it is needed");
  }

  // yaml-cpp says "?" for a value without a tag and "!" for a quoted one.
  void note_tag(const YAML::Mark &mark, const std::string &tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    note(mark, "tags (\"!name\") are not allowed; leave it out");
  }

  bool in_map() const { return !open_.empty() && open_.back()->kind == YamlKind::kMap; }
  bool expects_key() const { return in_map() && !key_is_waiting_.back(); }

  void count_node(const YAML::Mark &mark) {
    if (++node_count_ > kMaxYamlNodes) {
      refuse(place_of(mark),
             "more than " + std::to_string(kMaxYamlNodes) + " values; split the configuration");
    }
  }

  void add_key(const YAML::Mark &mark, const std::string &key) {
    count_node(mark);
    open_.back()->entries.push_back({key, place_of(mark), false, {}});
    key_is_waiting_.back() = true;
  }

  YamlNode &add(const YAML::Mark &mark, YamlKind kind) {
    count_node(mark);
    YamlNode *node = &root_;
    if (in_map()) {
      node = &open_.back()->entries.back().value;
      key_is_waiting_.back() = false;
    } else if (!open_.empty()) {
      node = &open_.back()->items.emplace_back();
    }
    node->kind = kind;
    node->place = place_of(mark);
    return *node;
  }

  void open(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor, YamlKind kind) {
    note_anchor(mark, anchor);
    note_tag(mark, tag);
    if (expects_key())
      refuse(place_of(mark), "a key must be text, not a list or a map; is a bracket not closed?");
    if (open_.size() == kMaxYamlDepth) {
      refuse(place_of(mark), "nested deeper than " + std::to_string(kMaxYamlDepth) + " levels");
    }
    open_.push_back(&add(mark, kind));
    key_is_waiting_.push_back(false);
  }

  void close() {
    open_.pop_back();
    key_is_waiting_.pop_back();
  }

  YamlNode root_;
  std::vector<YamlNode *> open_;
  std::vector<bool> key_is_waiting_;  // beside `open_`: a map's key has been read, its value not yet
  size_t node_count_ = 0;
  std::vector<YamlFault> faults_;
};

// Takes the events of what must not be there.
class Nothing : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark &mark) override {
    throw Refused(
        {place_of(mark), "a second document (\"---\") is not allowed; write one document per file"});
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark &, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark &, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark &, const std::string &, YAML::anchor_t, const std::string &) override {}
  void OnSequenceStart(const YAML::Mark &, const std::string &, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark &, const std::string &, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

}  // namespace

YamlDocument parse_yaml(std::string_view text) {
  YamlDocument document;
  const auto fail = [&document](TextPlace place, std::string message) {
    document.faults.push_back({place, std::move(message)});
  };
  if (text.size() > kMaxYamlBytes) {
    fail({}, "the file has " + std::to_string(text.size()) + " bytes; at most " +
                 std::to_string(kMaxYamlBytes) + " are allowed");
    return document;
  }
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    const bool has_document = parser.HandleNextDocument(builder);
    document.faults = builder.take_faults();
    YamlNode root = builder.take_root();
    if (!has_document || root.kind == YamlKind::kNull) {
      fail({}, "the file is empty; at least \"version\", \"services\" and \"pools\" are needed");
      return document;
    }
    document.root = std::move(root);
    Nothing nothing;
    parser.HandleNextDocument(nothing);
    return document;
  } catch (const Refused &refused) {
    if (!document.root) document.faults = builder.take_faults();
    document.faults.push_back(refused.fault());
  } catch (const YAML::Exception &exception) {
    if (!document.root) document.faults = builder.take_faults();
    fail(place_of(exception.mark), "not valid YAML: " + exception.msg);
  } catch (const std::exception &exception) {
    if (!document.root) document.faults = builder.take_faults();
    fail({}, std::string("cannot be read as YAML: ") + exception.what());
  }
  return document;
}

}  // namespace sluice
