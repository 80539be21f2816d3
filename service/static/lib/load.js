/** What a view loads: shown once it is there, anew when what it depends on changes. */

import { useCallback, useEffect, useState } from "./preact.js";

/**
 * @template T
 * @typedef {{data: T | null, error: unknown, loading: boolean, reload: () => void}} Loaded
 */

/**
 * The result of `load`, which runs again when `depends` changes; while it does, the earlier result stays.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} depends
 * @returns {Loaded<T>}
 */
export function useLoaded(load, depends) {
  const [state, setState] = useState(
    /** @type {{data: T | null, error: unknown, loading: boolean}} */ ({ data: null, error: null, loading: true }),
  );
  const [tries, setTries] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(abort.signal).then(
      (data) => !abort.signal.aborted && setState({ data, error: null, loading: false }),
      (error) => !abort.signal.aborted && setState((before) => ({ ...before, error, loading: false })),
    );
    return () => abort.abort();
  }, [...depends, tries]);
  const reload = useCallback(() => setTries((count) => count + 1), []);
  return { ...state, reload };
}

/**
 * Whether an element was near what is seen; what takes a while can begin then.
 * @param {{current: Element | null}} element
 */
export function useSeen(element) {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((each) => each.isIntersecting) && setSeen(true), {
      rootMargin: "200px",
    });
    observer.observe(/** @type {Element} */ (element.current));
    return () => observer.disconnect();
  }, []);
  return seen;
}
