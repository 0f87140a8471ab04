package hook

// Slot is what on_change remembers of one place (one target, one entity):
// what it said last. Its key carries the hook's Gen.
type Slot struct {
	Rev  int64  // 0: not stored yet; raised by every write
	Sig  string // signature of the last admitted event's data; "" after a give-back
	Seen string // the greatest event id judged
	By   string // the event that was admitted last

	Suppressed int64  // events dropped since the slot was made
	LastEvent  string // the last event dropped
	LastReason string // why it was
}

// SlotSight is what a slot learns of events that were dropped and left it as it
// was otherwise.
type SlotSight struct {
	// Sig and Seen are of unchanged events: the slot's Sig, and the greatest of
	// their ids. "" when all were stale.
	Sig, Seen  string
	N          int64 // how many were dropped
	LastEvent  string
	LastReason string
}

// Snooze is a suppression window. Its key carries the hook's Gen.
type Snooze struct {
	UntilMS    int64  // the window's end; 0: none was ever opened, or it was given back
	By         string // the event that opened it
	Suppressed int64  // events dropped inside it
	LastEvent  string // the last event dropped
	LastReason string // why it was
}

// OpenSnooze is a window with its key.
type OpenSnooze struct {
	Key string
	Snooze
}

// SlotWrite replaces a slot on condition that it is still as read.
type SlotWrite struct {
	Key string
	// Read is the Rev that was read; 0 for a slot that was not there.
	Read int64
	Slot Slot // Rev is Read+1
}

// SnoozeClaim opens a window on condition that none is open.
type SnoozeClaim struct {
	Key    string
	Snooze Snooze // what to store: Suppressed counts the batch that opened it
	// ExpiresAt is when the table may forget it, Unix seconds.
	ExpiresAt int64
}

// Admission is the one transaction in which a hook with on_change or snooze
// admits events: all of it takes effect or nothing (protocol W7).
type Admission struct {
	HookID  string
	NowMS   int64
	Slot    *SlotWrite // nil without on_change
	Snoozes []SnoozeClaim
	Rows    []Delivery // pending, attempt 0
}
