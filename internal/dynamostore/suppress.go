package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

func slotPartition(hookID string) string   { return "change#" + hookID }
func snoozePartition(hookID string) string { return "snooze#" + hookID }

// slotAge is how long a slot outlives the last event that was judged there, in
// seconds.
const slotAge = 30 * 24 * 60 * 60

// openNow holds for a window that is open at :now, whose second is :sec. A
// variable, because the SDK takes its address.
var openNow = "until_ms > :now AND (" + fresh + ")"

// byName stands for the attribute by, whose name DynamoDB reserves.
var byName = map[string]string{"#by": "by"}

// Slots returns those of the slots that exist, by key.
//
// A request for each 100 keys, 1 RCU for each key.
func (s *Store) Slots(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Slot, error) {
	found := map[string]hook.Slot{}
	err := s.byKey(ctx, slotPartition(hookID), keys, now, func(key string, r *reader) {
		found[key] = hook.Slot{
			Rev: r.num("rev"), Sig: r.str("sig"), Seen: r.str("seen"), By: r.str("by"),
			Suppressed: r.num("suppressed"), LastEvent: r.str("last_event"), LastReason: r.str("last_reason"),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read slots of hook %s: %w", hookID, err)
	}
	return found, nil
}

// Snoozes returns those of the windows that exist, by key; a window that has
// passed may be among them: the caller compares UntilMS.
//
// A request for each 100 keys, 1 RCU for each key.
func (s *Store) Snoozes(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Snooze, error) {
	found := map[string]hook.Snooze{}
	err := s.byKey(ctx, snoozePartition(hookID), keys, now, func(key string, r *reader) {
		found[key] = decodeSnooze(r)
	})
	if err != nil {
		return nil, fmt.Errorf("read windows of hook %s: %w", hookID, err)
	}
	return found, nil
}

func decodeSnooze(r *reader) hook.Snooze {
	return hook.Snooze{
		UntilMS: r.num("until_ms"), By: r.str("by"), Suppressed: r.num("suppressed"),
		LastEvent: r.str("last_event"), LastReason: r.str("last_reason"),
	}
}

// byKey reads those items of a partition that exist and have not expired, and
// calls each with the caller's key of it.
func (s *Store) byKey(ctx context.Context, pk string, keys []string, now int64, each func(key string, r *reader)) error {
	asked := make(map[string]string, len(keys)) // by sort key
	var ask []item
	for _, key := range keys {
		sk := sortKey(key)
		asked[sk] = key
		ask = append(ask, stateKey(pk, sk))
	}
	its, err := s.getAll(ctx, ask)
	if err != nil {
		return err
	}
	for _, it := range its {
		if expired(it, now) {
			continue
		}
		r := reader{it: it}
		key := asked[r.str("sk")]
		each(key, &r)
		if r.err != nil {
			return fmt.Errorf("decode %s: %w", key, r.err)
		}
	}
	return nil
}

// Admit (W7) stores slot, windows and rows, or nothing. hook.ErrExists when one
// of the rows exists already (the delivery was admitted before), as a
// *hook.Conflict that says which row; hook.ErrStale when the slot is not as
// read or a window is open: judge again; hook.ErrBusy when others kept getting
// in between. At most 99 rows and windows together.
//
// One request; 2 WCU for the slot and for each window, twice the cost of
// CreateDelivery for each row: 2 KB + 4. So one event of up to a KB with a
// window: 8 WCU. DynamoDB takes 4 MB in one transaction.
func (s *Store) Admit(ctx context.Context, a hook.Admission) error {
	if err := s.admit(ctx, a); err != nil {
		return fmt.Errorf("admit %d events to hook %s: %w", len(a.Rows), a.HookID, err)
	}
	return nil
}

// maxAdmitted bounds the rows and windows of one Admit: with the slot, a
// transaction takes 100.
const maxAdmitted = 99

func (s *Store) admit(ctx context.Context, a hook.Admission) error {
	if n := len(a.Rows) + len(a.Snoozes); n > maxAdmitted {
		return fmt.Errorf("%d rows and windows: at most %d go together", n, maxAdmitted)
	}
	mark, sec := newMark(), unixSeconds(a.NowMS)
	var writes []types.TransactWriteItem
	if w := a.Slot; w != nil {
		it := stateKey(slotPartition(a.HookID), sortKey(w.Key))
		it["rev"], it["expires_at"] = num(w.Read+1), num(sec+slotAge)
		putStr(it, "sig", w.Slot.Sig)
		it["seen"] = str(w.Slot.Seen) // always: SeeSlot compares it
		putStr(it, "by", w.Slot.By)
		putNum(it, "suppressed", w.Slot.Suppressed)
		putStr(it, "last_event", w.Slot.LastEvent)
		putStr(it, "last_reason", w.Slot.LastReason)
		c := condition{expr: "rev = :read", values: item{":read": num(w.Read)}}
		if w.Read == 0 {
			c = condition{expr: gone, values: item{":sec": num(sec)}}
		}
		writes = append(writes, putWrite(s.state, it, mark, c))
	}
	for _, w := range a.Snoozes {
		it := stateKey(snoozePartition(a.HookID), sortKey(w.Key))
		it["until_ms"], it["suppressed"] = num(w.Snooze.UntilMS), num(w.Snooze.Suppressed)
		putNum(it, "expires_at", w.ExpiresAt)
		putStr(it, "by", w.Snooze.By)
		putStr(it, "last_event", w.Snooze.LastEvent)
		putStr(it, "last_reason", w.Snooze.LastReason)
		writes = append(writes, putWrite(s.state, it, mark, condition{
			expr: gone + " OR until_ms <= :now", values: item{":sec": num(sec), ":now": num(a.NowMS)},
		}))
	}
	before := len(writes)
	for _, d := range a.Rows {
		w, err := s.rowWrite(d, mark, a.NowMS)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return nil
	}

	refused, err := s.transact(ctx, mark, writes)
	if err != nil || refused == nil {
		return err
	}
	// A row first: what was admitted before is done, whatever slot and windows
	// have become since.
	if len(refused) != len(writes) {
		return fmt.Errorf("%d reasons for %d writes", len(refused), len(writes))
	}
	if err := conflict(refused[before:], nil, a.Rows); err != nil {
		return err
	}
	return hook.ErrStale
}

// SeeSlot notes events that a slot dropped: it adds saw.N to Suppressed, sets
// LastEvent and LastReason, and raises Rev by one. With saw.Seen it raises Seen
// to it, on condition that Sig is saw.Sig and Seen is less; without, Seen stays,
// on condition that the slot is there. false, and nothing written, when the
// condition does not hold.
//
// One request, 1 WCU.
func (s *Store) SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (seen bool, err error) {
	// Rev too: an admission judged by what was read before must take back neither
	// Seen nor the count.
	set := "SET rev = rev + :one, last_event = :event, last_reason = :reason, expires_at = :expires, w = :w"
	c := condition{
		// Without Seen the condition would still hold when the SDK repeats a
		// request that took effect, and count again: hence w.
		expr: "attribute_exists(rev) AND w <> :w AND (" + fresh + ")",
		values: item{
			":one": num(1), ":n": num(saw.N), ":event": str(saw.LastEvent), ":reason": str(saw.LastReason),
			":sec": num(unixSeconds(now)), ":expires": num(unixSeconds(now) + slotAge),
		},
	}
	if saw.Seen != "" {
		set += ", seen = :seen"
		c.expr += " AND seen < :seen"
		c.values[":seen"] = str(saw.Seen)
		if saw.Sig == "" {
			c.expr += " AND attribute_not_exists(sig)"
		} else {
			c.expr += " AND sig = :sig"
			c.values[":sig"] = str(saw.Sig)
		}
	}
	_, seen, err = s.update(ctx, stateKey(slotPartition(hookID), sortKey(key)), set+" ADD suppressed :n", newMark(), types.ReturnValueNone, c)
	if err != nil {
		return false, fmt.Errorf("count in slot of hook %s: %w", hookID, err)
	}
	return seen, nil
}

// AddSuppressed adds n to a window's count and notes the last event and the
// reason, on condition that the window still ends at untilMS; false, and
// nothing written, otherwise.
//
// One request, 1 WCU.
func (s *Store) AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (added bool, err error) {
	_, added, err = s.update(ctx, stateKey(snoozePartition(hookID), sortKey(key)),
		"SET last_event = :event, last_reason = :reason, w = :w ADD suppressed :n", newMark(), types.ReturnValueNone, condition{
			// Unlike elsewhere the condition would still hold when the SDK
			// repeats a request that took effect, and count again: hence w.
			expr:   "until_ms = :until AND w <> :w",
			values: item{":until": num(untilMS), ":n": num(n), ":event": str(lastEvent), ":reason": str(reason)},
		})
	if err != nil {
		return false, fmt.Errorf("count in window of hook %s: %w", hookID, err)
	}
	return added, nil
}

// OpenSnoozes returns up to limit of a hook's windows that are open at now,
// whose keys begin with prefix and come after `after`, in the order of the
// keys' bytes, and whether there may be more. A page may be short, but is never
// empty, while more is true. Of windows stored under a hash of their key (see
// sortKey) nothing tells the key: they are left out. A limit below 1 is an error.
//
// One request where nearly all windows are open. Those that have passed, and
// are not forgotten yet, are read and left out by the table: then one more,
// that reads a MB, which is about 4,000 windows, and more until there is one to
// return. An RCU for each 4 KB of what is read, so 256 for a MB.
func (s *Store) OpenSnoozes(ctx context.Context, hookID, prefix, after string, limit int, now int64) (page []hook.OpenSnooze, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list windows of hook %s: limit %d", hookID, limit)
	}
	pk, start := snoozePartition(hookID), startKey(after)
	if len(pk) > maxPartitionKey || prefix != "" && !storableKey(prefix) {
		return nil, false, nil
	}
	consistent, size := true, int32(limit+1) // one more, to tell whether there are more
	in := &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShard, ConsistentRead: &consistent, Limit: &size,
		FilterExpression: &openNow,
		ExpressionAttributeValues: item{
			":pk": str(pk), ":now": num(now), ":sec": num(unixSeconds(now)),
		},
	}
	if prefix != "" {
		in.KeyConditionExpression, in.ExpressionAttributeValues[":prefix"] = &inShardPrefix, str(prefix)
	}
	switch {
	case strings.HasPrefix(after, prefix):
		if start != "" {
			in.ExclusiveStartKey = stateKey(pk, start)
		}
	case after > prefix:
		return nil, false, nil // behind all of them
	}
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return nil, false, fmt.Errorf("list windows of hook %s: %w", hookID, err)
		}
		for _, it := range out.Items {
			r := reader{it: it}
			w := hook.OpenSnooze{Key: r.str("sk"), Snooze: decodeSnooze(&r)}
			if r.err != nil {
				return nil, false, fmt.Errorf("decode window %s of hook %s: %w", w.Key, hookID, r.err)
			}
			if w.Key > after && sortKey(w.Key) == w.Key {
				page = append(page, w)
			}
		}
		switch left := len(out.LastEvaluatedKey) > 0; {
		case len(page) > limit:
			return page[:limit], true, nil
		case len(page) == limit || !left || in.Limit == nil && len(page) > 0:
			return page, left, nil
		}
		// Not all are open: from here on as many at once as there may be.
		in.ExclusiveStartKey, in.Limit = out.LastEvaluatedKey, nil
	}
}

// EndSnooze (W10) ends a window that is open at now: its UntilMS becomes 0, and
// nothing else changes. false, and nothing written, when none is open under
// that key.
//
// One request, 1 WCU.
func (s *Store) EndSnooze(ctx context.Context, hookID, key string, now int64) (ended bool, err error) {
	pk := snoozePartition(hookID)
	if len(pk) > maxPartitionKey || !utf8.ValidString(key) {
		return false, nil
	}
	// A repeat finds no open window, and our mark: that was us. Should the next
	// event have opened another meanwhile, the repeat ends that one too, and
	// the event after it is told: what a person who ends a window asks for.
	_, ended, err = s.update(ctx, stateKey(pk, sortKey(key)),
		"SET until_ms = :zero, w = :w", newMark(), types.ReturnValueNone, condition{
			expr:   openNow,
			values: item{":zero": num(0), ":now": num(now), ":sec": num(unixSeconds(now))},
		})
	if err != nil {
		return false, fmt.Errorf("end window of hook %s: %w", hookID, err)
	}
	return ended, nil
}

// GiveBack (W9) undoes what the admission of d remembered, each only while d's
// event is the one that opened it: the slot forgets its Sig (Seen stays), the
// window ends. Doing it twice is harmless.
//
// A request and 1 WCU for each of slot and window.
func (s *Store) GiveBack(ctx context.Context, d hook.Delivery) error {
	var errs []error
	if d.SlotKey != "" {
		_, _, err := s.update(ctx, stateKey(slotPartition(d.HookID), sortKey(d.SlotKey)),
			"SET rev = rev + :one, w = :w REMOVE sig", newMark(), types.ReturnValueNone, condition{
				expr: "#by = :event AND attribute_exists(sig)", names: byName,
				values: item{":event": str(d.Event.ID), ":one": num(1)},
			})
		errs = append(errs, err)
	}
	if d.SnoozeKey != "" {
		_, _, err := s.update(ctx, stateKey(snoozePartition(d.HookID), sortKey(d.SnoozeKey)),
			"SET until_ms = :zero, w = :w", newMark(), types.ReturnValueNone, condition{
				expr: "#by = :event AND until_ms > :zero", names: byName,
				values: item{":event": str(d.Event.ID), ":zero": num(0)},
			})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give back what event %s claimed of hook %s: %w", d.Event.ID, d.HookID, err)
	}
	return nil
}
