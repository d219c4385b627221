// Maps of StoreCore that are put back when a change is undone.
#pragma once

#include <utility>

#include "store/core.h"

namespace ruvltra {

template <class Map, class Key, class Item>
void StoreCore::enter(Map& map, const Key& key, Item item) {
  const auto found = map.find(key);
  if (found == map.end()) {
    undo_.push_back([&map, key] { map.erase(key); });
  } else {
    undo_.push_back([&map, key, old = found->second] { map[key] = old; });
  }
  map[key] = std::move(item);
}

template <class Map, class Key>
void StoreCore::leave(Map& map, const Key& key) {
  const auto found = map.find(key);
  if (found == map.end()) return;
  undo_.push_back([&map, kept = found->first, old = found->second] { map[kept] = old; });
  map.erase(found);
}

template <class T>
void StoreCore::assign(T& place, T value) {
  undo_.push_back([&place, old = place] { place = old; });
  place = std::move(value);
}

}  // namespace ruvltra
