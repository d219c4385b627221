// A value that views can watch. State lives in modules under state/, views only read it and call their functions.
import { useEffect, useState } from 'preact/hooks';

export function createStore(initial) {
  let value = initial;
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      value = typeof next === 'function' ? next(value) : next;
      for (const watcher of [...watchers]) watcher(value);
    },
    patch(part) { this.set({ ...value, ...part }); },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore(store) {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(() => store.get());  // what was set between the first render and this effect
    return store.watch((next) => setValue(() => next));
  }, [store]);
  return value;
}
