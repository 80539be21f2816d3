/** The focus of the keyboard, where what has it goes away: a button that has done what it was for. */

const FOCUSABLE = "a[href], button:not([disabled]), input:not([disabled]), select:not([disabled]), summary, [tabindex]";

/**
 * Keep the focus near where it was: browsers put it at the top of the page when its element is removed.
 *
 * It goes to what follows within the view; else to the heading of the part in which it was, or of the view.
 * @param {HTMLElement} main what holds the view
 */
export function keepFocus(main) {
  /** @type {Element | null} */
  let last = null;
  /** @type {Element[]} what follows it, the nearest first */
  let after = [];
  /** @type {Element[]} what it is in, the nearest first */
  let around = [];
  main.addEventListener("focusin", (event) => {
    last = /** @type {Element} */ (event.target);
    after = [];
    around = [];
    for (let each = last; each !== main && each.parentElement; each = each.parentElement) {
      for (let next = each.nextElementSibling; next; next = next.nextElementSibling) after.push(next);
      around.push(each.parentElement);
    }
  });
  main.addEventListener("focusout", (event) => {
    if (event.relatedTarget) last = null; // the focus was moved, and not lost
  });
  new MutationObserver(() => {
    if (!last || last.isConnected) return;
    last = null;
    if (document.activeElement !== document.body) return;
    for (const each of after.filter(({ isConnected }) => isConnected)) {
      const next = [each, ...each.querySelectorAll(FOCUSABLE)].find(isSeen);
      if (next) return next.focus();
    }
    const part = around.find((each) => each.isConnected && each.querySelector("h1, h2"));
    const heading = /** @type {HTMLElement | null | undefined} */ (part?.querySelector("h1, h2"));
    heading?.setAttribute("tabindex", "-1");
    heading?.focus();
  }).observe(main, { childList: true, subtree: true });
}

/**
 * Put the focus on an item of a list that is about to be drawn: the first of those that a button shows.
 * @param {{current: HTMLElement | null}} list
 * @param {number} place
 */
export function focusItem(list, place) {
  requestAnimationFrame(() => {
    const item = list.current?.children[place];
    /** @type {HTMLElement | null | undefined} */ (item?.querySelector(FOCUSABLE))?.focus();
  });
}

/**
 * @param {Element} element
 * @returns {element is HTMLElement}
 */
function isSeen(element) {
  return element instanceof HTMLElement && element.matches(FOCUSABLE) && element.checkVisibility() && element.tabIndex >= 0;
}
