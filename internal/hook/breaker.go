package hook

import "time"

// BreakerState says what a breaker does with its hook's deliveries.
type BreakerState string

const (
	// BreakerClosed counts failures; deliveries are attempted.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen lets deliveries wait, but for one now and then that finds out
	// whether the receiver is back.
	BreakerOpen BreakerState = "open"
	// BreakerReleasing counts failures as a closed one does, while what waited
	// for it is woken by and by.
	BreakerReleasing BreakerState = "releasing"
)

// Breaker is what is remembered of a hook whose attempts fail one after the
// other. While they succeed nothing is stored, which means closed. Times are
// Unix milliseconds; 0 means unset.
type Breaker struct {
	HookID string
	Gen    int64 // the hook's Gen: what failed before under the same id is another's
	Rev    int64 // raised by every write but the counting of failures; 0: not stored
	State  BreakerState

	Count    int64 // failures in a row
	SinceMS  int64 // the first of them; not set: the next that is counted
	LastMS   int64 // the last of them
	OpenedMS int64 // when it opened; not set while it never did
	WakeMS   int64 // when the sweep looks at it; not set while it is closed

	// Event and Seq are those of the row that was woken last while the breaker is
	// open: the one that probes. Without Seq, Event is where the sweep goes on
	// looking: for a row to probe with, or to release.
	Event string
	Seq   int64
}

// BreakerMemory is how long failures are remembered: one that comes later after
// the last begins a new row.
const BreakerMemory = 10 * time.Minute

// Waiting is what the status index tells of a hook's pending row: enough to
// choose rows to wake, never enough to act on.
type Waiting struct {
	Overdue
	DueMS   int64
	LeaseMS int64 // until when an attempt owns it; 0 when none does
}
