/** One slow clock for every "4 min ago", so that the page wakes once and not once per row. */

class Clock {
  now = $state(Date.now());

  start(): () => void {
    const timer = setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 10_000);
    return () => clearInterval(timer);
  }
}

export const clock = new Clock();
