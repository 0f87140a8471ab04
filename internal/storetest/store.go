// Package storetest is the promise of every store, as a test suite: dynamostore
// (DynamoDB) and boltstore (embedded) both pass it.
//
// Test support: imported by _test.go files only.
package storetest

import (
	"context"

	"eventhooks/internal/hook"
)

// Store is everything that the services together ask of a store. Each service
// declares the few methods it needs beside the code that calls them; this is
// their sum, and the comments here are the promise.
//
// Every method may be called concurrently, by any number of processes on the
// same tables. A read is consistent unless its comment says that it only
// suggests. now is Unix milliseconds, passed in so that time is the caller's:
// what has expired at now is not there, whatever the table still holds: neither
// for reads nor for conditions. An expiry in seconds has come at now when it is
// at most now/1000.
//
// An item over 400 KB is an error that wraps none of the hook errors, and
// nothing is written. Two changes of one record, or two rows of one delivery,
// in one call are an error too. Texts read back as they were written, provided
// they are UTF-8; bytes read back whatever they are.
//
// Under an id or a key that is empty, over 1,024 bytes, or not UTF-8 nothing is
// stored. Get, Delivery, Deliveries, OpenSnoozes, EndSnooze and TokenUses answer
// so, and a list may begin after, or before, any text: people may ask for what
// they like.
type Store interface {
	ConfigStore
	DeliveryStore
	SuppressionStore
	BreakerStore
	ProbeStore
	IngestStore
	TokenStore
}

// ConfigStore holds hooks, sources, upstreams, targets and tokens.
type ConfigStore interface {
	// Epoch returns the feed's epoch, 0 before the first write. One read.
	Epoch(ctx context.Context, feed hook.Feed) (int64, error)
	// Get returns a record, or hook.ErrNotFound (also for a tombstone and for
	// an expired one).
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
	// List returns up to limit live records of a kind whose ids begin with
	// prefix and come after `after`, in the order of their ids, and whether
	// there may be more (then `after` is the id of the last one returned; a
	// page may be short, but is never empty while more is true). The order is
	// that of the ids' bytes. A limit below 1 is an error.
	List(ctx context.Context, kind, prefix, after string, limit int, now int64) (page []hook.Record, more bool, err error)
	// Changes returns all records of a kind with Changed > since, tombstones
	// included, in the order of Changed. A write that is in flight may show in
	// one kind before the other, and after the epoch.
	Changes(ctx context.Context, kind string, since int64) ([]hook.Record, error)
	// Write stores all changes and all rows, or nothing, raises the feed's
	// epoch by one and returns it; the records' Changed is the new epoch. With
	// hook.FeedNone there is no epoch, 0 is returned, and Changed is 0.
	// hook.ErrStale when an Expect > 0 does not hold, hook.ErrExists when an
	// ExpectAbsent does not hold or a row exists; both are *Conflict errors
	// found with errors.As that say which change it was. hook.ErrBusy when
	// other writers kept getting in between. More than 90 changes and rows are
	// an error.
	//
	// An Expect > 0 holds only for a live record: neither a tombstone nor an
	// expired record has the Changed that is expected. A tombstone has no Data,
	// and expires a day after now unless the change says when.
	//
	// A row in rows whose Gen is 0 belongs to the hook of this same write and
	// gets the new epoch as its Gen.
	Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error)
}

// DeliveryStore holds delivery rows: docs/delivery-protocol.md, whose names
// W1 to W6 are given.
//
// Only rows that have ended expire: a pending row is stored without ExpiresAt,
// whatever it was given with.
type DeliveryStore interface {
	// CreateDelivery (W1) stores the first row of a delivery; false if one is
	// there that has not expired: then nothing is written.
	CreateDelivery(ctx context.Context, d hook.Delivery, now int64) (created bool, err error)
	// Delivery returns a row, or hook.ErrNotFound.
	Delivery(ctx context.Context, key hook.DeliveryKey, now int64) (hook.Delivery, error)
	// Deliveries returns those of the rows that exist, in any order. keys may
	// be many, be of many hooks, of hooks that are not there too, and name a
	// row twice; it may be answered once or twice then. The rows are whole: as
	// many are asked for at once as there is memory for.
	Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error)
	// ClaimDelivery (W2) takes a pending row whose Seq is w.Seq for an attempt:
	// Seq+1, Tries+1, LeaseMS and WakeMS = lease. It returns the row as it is
	// then. hook.ErrStale when the row is not there, not pending, or at
	// another Seq.
	ClaimDelivery(ctx context.Context, w hook.Wake, lease, now int64) (hook.Delivery, error)
	// UpdateDelivery (W3) replaces a pending row whose Seq is d.Seq by d with
	// Seq+1: after a failed attempt, a park, or an end other than delivered.
	// It returns the new Seq. hook.ErrStale when the row is no longer so.
	UpdateDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error)
	// RecordDelivered (W4) stores a row with status delivered, if there is
	// none, or one of the same Run that is not delivered yet. false when
	// something else is there: then nothing is written. The row's Seq becomes
	// d.DeliveredSeq(), whatever it was.
	RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (recorded bool, err error)
	// RedeliverDelivery (W5) replaces a row of any status whose Seq is d.Seq by d
	// with Seq+1, which it returns, claimed or not: of a d with another Run,
	// whoever holds the row cannot record an end any more. hook.ErrStale when the
	// row is no longer so.
	RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error)
	// NudgeDelivery (W6) moves a pending row's WakeMS from o.WakeMS to later
	// and raises Nudges; Seq stays. false when the row is not so any more.
	NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (nudged bool, err error)
	// OverdueDeliveries returns up to limit pending rows of a wake shard whose WakeMS
	// has come, earliest first. It only suggests: what it says may be old.
	OverdueDeliveries(ctx context.Context, shard int, now int64, limit int) ([]hook.Overdue, error)
	// ListDeliveries returns up to limit of a hook's rows, newest event first,
	// whose event ids come before `before` ("" begins with the newest), and
	// whether there may be more. status "" means all; the rows are whole, and
	// each is in the status asked for. It only suggests. A page may be short,
	// but is never empty, while more is true. A limit below 1 is an error.
	ListDeliveries(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) (page []hook.Delivery, more bool, err error)
}

// SuppressionStore holds what on_change and snooze remember.
type SuppressionStore interface {
	// Slots returns those of the slots that exist, by key. A slot is forgotten
	// 30 days after it was admitted under, or seen, last.
	Slots(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Slot, error)
	// Snoozes returns those of the windows that exist, by key; a window that
	// has passed may be among them: the caller compares UntilMS.
	Snoozes(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Snooze, error)
	// Admit (W7) stores slot, windows and rows, or nothing. hook.ErrExists
	// when one of the rows exists already (the delivery was admitted before),
	// as a *Conflict that says which row, whatever slot and windows say;
	// hook.ErrStale when the slot is not as read or a window is open at NowMS:
	// judge again; hook.ErrBusy when others kept getting in between. More than
	// 99 rows and windows together are an error. A slot that is not there, or
	// was forgotten, is as read when Read is 0. A window that has passed, or was
	// given back, is replaced whole.
	Admit(ctx context.Context, a hook.Admission) error
	// SeeSlot notes events that a slot dropped: it adds saw.N to Suppressed, sets
	// LastEvent and LastReason, and raises Rev by one. With saw.Seen it raises
	// Seen to it, on condition that Sig is saw.Sig and Seen is less; without, Seen
	// stays, on condition that the slot is there. false, and nothing written,
	// when the condition does not hold.
	SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (seen bool, err error)
	// AddSuppressed adds n to a window's count and notes the last event and
	// the reason, on condition that the window still ends at untilMS; false,
	// and nothing written, otherwise.
	AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (added bool, err error)
	// OpenSnoozes returns up to limit of a hook's windows that are open at now,
	// whose keys begin with prefix and come after `after`, in the order of the
	// keys' bytes, and whether there may be more. A page may be short, but is
	// never empty, while more is true. A window whose key is over 1,024 bytes
	// or begins with "sha256#" need not be listed: match makes no such keys. A
	// limit below 1 is an error.
	OpenSnoozes(ctx context.Context, hookID, prefix, after string, limit int, now int64) (page []hook.OpenSnooze, more bool, err error)
	// EndSnooze (W10) ends a window that is open at now: its UntilMS becomes 0,
	// and nothing else changes, so that AddSuppressed counts no more in it and
	// the next Admit opens another. false, and nothing written, when none is
	// open under that key.
	EndSnooze(ctx context.Context, hookID, key string, now int64) (ended bool, err error)
	// GiveBack (W9) undoes what the admission of d remembered, each only while
	// d's event is the one that opened it (By): the slot forgets its Sig (Seen
	// stays, Rev rises), the window's UntilMS becomes 0. Doing it twice is
	// harmless, and so is a d without keys, or one whose slot and window are
	// not there.
	GiveBack(ctx context.Context, d hook.Delivery) error
}

// BreakerStore holds what is remembered of hooks whose attempts fail one after
// the other. There is one breaker for a hook and Gen; closed ones are forgotten
// an hour after their last failure.
type BreakerStore interface {
	// CountFailures adds n failures, the last of them at now, to the breaker of a
	// hook, and returns it as it is then. Where there is none, or a closed one
	// whose last failure is BreakerMemory or more before now, or one of another
	// Gen, a closed one begins with them: since now, Rev 1, or one more than there
	// was. Otherwise Rev stays, LastMS never goes back, and SinceMS becomes now where
	// it was not set. n is at least 1.
	// hook.ErrBusy when others kept getting in between.
	CountFailures(ctx context.Context, hookID string, gen, n, now int64) (hook.Breaker, error)
	// Breaker returns the breaker of a hook, or hook.ErrNotFound; that of another
	// Gen is not found. It only suggests.
	Breaker(ctx context.Context, hookID string, gen, now int64) (hook.Breaker, error)
	// UpdateBreaker replaces the breaker whose Gen and Rev are b's by b with Rev+1
	// and returns it; hook.ErrStale when it is no longer so. What was counted since
	// b was read is replaced too. One that is not closed does not expire; one that
	// is has no WakeMS, whatever it was given with.
	UpdateBreaker(ctx context.Context, b hook.Breaker, now int64) (hook.Breaker, error)
	// DeleteBreaker forgets the breaker whose Gen and Rev are b's; hook.ErrStale
	// when another is there, or none: also none because this call, whose first
	// answer was lost, has deleted it.
	DeleteBreaker(ctx context.Context, b hook.Breaker) error
	// OverdueBreakers returns up to limit breakers whose WakeMS is set and has
	// come, earliest first. It only suggests.
	OverdueBreakers(ctx context.Context, now int64, limit int) ([]hook.Breaker, error)
	// PendingDeliveries returns up to limit of a hook's pending rows, oldest event
	// first, whose event ids come after `after`, and whether there may be more. It
	// only suggests. A page may be short, but is never empty, while more is true.
	// A limit below 1 is an error.
	PendingDeliveries(ctx context.Context, hookID, after string, limit int) (page []hook.Waiting, more bool, err error)
}

// ProbeStore holds what healthprobe remembers, and what is asked of it.
type ProbeStore interface {
	// Probes returns all that is stored of an upstream's probes: states in any
	// order, orders in that of their ids' bytes. While a lease is held, others
	// than its holder only add orders and watch.
	Probes(ctx context.Context, upstreamID string, now int64) (hook.ProbeView, error)
	// AcquireProbe takes an upstream's lease until untilMS, if none is held
	// at now, and returns it with its new Gen and the last Summary. false when
	// another run holds it. A lease is over at its UntilMS.
	AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error)
	// ReleaseProbe stores the lease's Summary and ends it, if its Gen is still
	// the current one, even when it is over; hook.ErrStale otherwise. The
	// Summary is forgotten after 30 days.
	ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error
	// PutProbeState stores a target's state, if the lease's Gen is still the
	// current one; hook.ErrStale otherwise. It is forgotten 30 days after it was
	// put last.
	PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error
	// DeleteProbeState forgets a target's state under the same condition; one
	// that is not there is harmless.
	DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, now int64) error
	// PutHealthOrder stores an order, in place of one with its id, whoever holds
	// the lease. It is forgotten 30 days after.
	PutHealthOrder(ctx context.Context, upstreamID string, o hook.HealthOrder, now int64) error
	// DeleteHealthOrder forgets an order, if the lease's Gen is still the current
	// one; hook.ErrStale otherwise. One that is not there is harmless.
	DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, orderID string, now int64) error
	// WatchProbes notes that somebody wants to read fresh results until untilMS,
	// whoever holds the lease. What was noted for longer stays.
	WatchProbes(ctx context.Context, upstreamID string, untilMS, now int64) error
	// ProbedUpstreams returns the ids of the upstreams that have states,
	// however long ago they were probed, so that what an upstream left behind
	// when it was removed can still be sent. Each once, in any order. One
	// whose states were all deleted is not among them once its lease has been
	// released.
	ProbedUpstreams(ctx context.Context, now int64) ([]string, error)
}

// IngestStore makes retried posts idempotent.
type IngestStore interface {
	// ClaimIngest stores the claim if there is none under its token and key,
	// and returns what is there then: the given claim or the earlier one.
	ClaimIngest(ctx context.Context, c hook.IngestClaim, now int64) (hook.IngestClaim, error)
	// FinishIngest notes that the claim's events are in the queue: the stored
	// claim is no longer Pending. Doing it twice is harmless; so is a claim
	// that is not there any more, or in whose place another one (by
	// FirstSeenMS) is: nothing is written then.
	FinishIngest(ctx context.Context, c hook.IngestClaim) error
}

// TokenStore remembers when tokens were last used.
type TokenStore interface {
	// NoteTokenUse notes that a token was used, unless a later use is noted
	// already, expired or not. Whether there is such a token is not asked.
	NoteTokenUse(ctx context.Context, u hook.TokenUse) error
	// TokenUses returns when those of the tokens were last used of which that is
	// noted, by id, in Unix seconds. ids may be many, and name a token twice.
	TokenUses(ctx context.Context, ids []string, now int64) (map[string]int64, error)
}
