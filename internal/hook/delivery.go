package hook

import (
	"fmt"
	"time"
)

// Status is the state of a delivery.
type Status string

// A delivery is Pending until it ends in one of the other three. Nothing
// replaces Delivered but an explicit redeliver, which begins a new run.
const (
	Pending    Status = "pending"
	Delivered  Status = "delivered"
	Failed     Status = "failed"
	Superseded Status = "superseded" // a newer event of the same slot was told instead
)

// Reasons why a delivery ended, or waits, other than an attempt's outcome.
const (
	ReasonExhausted   = "exhausted"     // all attempts were made
	ReasonExpired     = "expired"       // its deadline passed
	ReasonGone        = "gone"          // the receiver answered 410
	ReasonBlocked     = "blocked"       // the egress rules refuse the target
	ReasonUnrendered  = "unrendered"    // the request could not be built from the event
	ReasonHookDeleted = "hook-deleted"  // the hook is no longer there
	ReasonHookOff     = "hook-disabled" // the hook was disabled meanwhile
	ReasonCrashed     = "crashed"       // five claims without a recorded attempt
	ReasonNewer       = "newer-event"   // superseded by a newer event of its slot
	ReasonParked      = "parked"        // waits: no place, or no time, was left for an attempt
	ReasonBreaker     = "breaker-open"  // waits: the hook's attempts fail one after the other
)

// DeliveryKey names a delivery: one event on its way to one hook.
type DeliveryKey struct {
	HookID  string
	EventID string
}

// WebhookID is the value of the webhook-id header: equal on every attempt of
// the delivery, so that a receiver can tell a repeat.
func (k DeliveryKey) WebhookID() string { return k.EventID + "_" + k.HookID }

func (k DeliveryKey) String() string { return k.WebhookID() }

// Delivery is the row that is the truth about one event on its way to one
// hook. Times are Unix milliseconds unless a name says otherwise; 0 means
// unset.
type Delivery struct {
	HookID string
	Event  Event // whole: what is sent again is what was sent first

	Gen    int64 // the hook's Gen at admission
	Status Status
	Reason string // why it ended, or why it waits; "" for an ordinary end

	Run     int64 // 1, and one more for each explicit redeliver
	Attempt int64 // attempts made in this run
	Seq     int64 // changes with every change of plan; a wake-up names the Seq it belongs to
	Tries   int64 // claims since the last recorded attempt
	Parks   int64 // times put off without an attempt, since the last attempt
	Nudges  int64 // times the sweep woke it since the last change of plan

	CreatedMS  int64 // admission, or first attempt
	DeadlineMS int64 // no attempt starts after this
	DueMS      int64 // when the next attempt is due; pending only
	WakeMS     int64 // when the sweep looks at it; pending only
	LeaseMS    int64 // until when an attempt owns it; 0 when none does

	Attempts []Attempt // of all runs, oldest first, at most MaxAttemptsKept
	Response *Response // of the last failed attempt; nil when there was none

	SlotKey   string // on_change slot it was admitted under; "" for none
	SnoozeKey string // snooze key it was admitted under; "" for none

	ExpiresAt int64 // Unix seconds; terminal rows only
}

// MaxAttemptsKept bounds the attempts that a row remembers; the oldest go
// first. A run has at most 50.
const MaxAttemptsKept = 60

// Key returns the row's key.
func (d Delivery) Key() DeliveryKey { return DeliveryKey{d.HookID, d.Event.ID} }

// Shard returns the row's partition, 0 to DeliveryShards-1, a function of the
// event's id.
func (k DeliveryKey) Shard() int { return shard(k.EventID, DeliveryShards) }

// WakeShard returns the partition of the due index that holds the row.
func (k DeliveryKey) WakeShard() int { return shard(k.HookID+k.EventID, WakeShards) }

// Partitions of one hook's deliveries, and of the index of what is due. Both
// spread writes so that no single partition takes a busy hook's load.
const (
	DeliveryShards = 8
	WakeShards     = 8
)

// shard is FNV-1a modulo n, written out because it names stored partitions:
// it must never change.
func shard(s string, n uint32) int {
	h := uint32(2166136261)
	for i := range len(s) {
		h ^= uint32(s[i])
		h *= 16777619
	}
	return int(h % n)
}

// DeliveredSeq returns the Seq of the row once its run was delivered: beyond
// every other of the run. A first attempt that is made twice at once may fail,
// be woken and be claimed before its success is recorded, so the Seq that the
// success began with may be one that the row has had. Who read the row as it
// was then, or holds a claim of it, must not take it for the same.
func (d Delivery) DeliveredSeq() int64 { return (d.Run+1)<<20 - 1 }

// WakeSlack is how long after its due time the sweep looks for a row whose
// wake-up was sent.
const WakeSlack = 2 * time.Minute

// Terminal reports whether the delivery has ended.
func (d Delivery) Terminal() bool { return d.Status != Pending }

// Attempt is one try of a delivery, as recorded.
type Attempt struct {
	AtMS   int64  // when it started
	TookMS int64  // how long it took, milliseconds
	Code   int    // HTTP status; 0 when there was no answer
	Error  string // "" for a success; never a URL, a header or a body
	IP     string // address that was dialled; "" when none was
}

// Response is what a receiver answered to a failed attempt, bounded: at most
// MaxResponseBytes of body.
type Response struct {
	Code    int
	Headers map[string]string
	Body    string
}

// MaxResponseBytes bounds what is kept of a receiver's answer.
const MaxResponseBytes = 4 << 10

// Wake is a wake-up for a pending delivery: the alarm clock's note. It is
// dropped unless the row is pending with that Seq.
type Wake struct {
	DeliveryKey
	Seq int64
	// Probe says that the attempt is to find out whether the receiver is back:
	// it is made although the hook's breaker is open.
	Probe bool
}

func (w Wake) String() string { return fmt.Sprintf("%s#%d", w.DeliveryKey, w.Seq) }

// Overdue is what the due index tells of a row: enough to move its wake time
// and to wake it, never enough to act on.
type Overdue struct {
	Wake
	WakeMS     int64
	Nudges     int64
	DeadlineMS int64
	Reason     string // why it waits; "" for its next attempt
}
