package dynamostore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

const deliveryPrefix = "delivery#"

// maxItem is how large an item may be, in bytes.
const maxItem = 400 << 10

func deliveryPartition(hookID string, shard int) string {
	return deliveryPrefix + hookID + "#" + strconv.Itoa(shard)
}

func deliveryKey(k hook.DeliveryKey) item {
	return stateKey(deliveryPartition(k.HookID, k.Shard()), k.EventID)
}

// storable reports whether DynamoDB takes the key: under another, which a person
// may ask for all the same, nothing is stored.
func storable(k hook.DeliveryKey) bool {
	return storableKey(k.EventID) && len(k.HookID) <= maxSortKey && utf8.ValidString(k.HookID)
}

// keyOf reads a delivery's key back; false for an item of another kind.
func keyOf(it item) (hook.DeliveryKey, bool) {
	r := reader{it: it}
	pk, sk := r.str("pk"), r.str("sk")
	rest, ok := strings.CutPrefix(pk, deliveryPrefix)
	i := strings.LastIndexByte(rest, '#')
	if !ok || i < 0 || r.err != nil {
		return hook.DeliveryKey{}, false
	}
	return hook.DeliveryKey{HookID: rest[:i], EventID: sk}, true
}

// attemptDoc and responseDoc are what attempts and response hold, as JSON.
type attemptDoc struct {
	At    int64  `json:"at"`
	Took  int64  `json:"took"`
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	IP    string `json:"ip,omitempty"`
}

type responseDoc struct {
	Code    int               `json:"code,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
}

// encodeJSON is encoding/json without escaping for HTML, which would make six
// bytes of each angle bracket of a receiver's error page.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encodeDelivery returns the item of a delivery, without its mark. Which
// attributes it has follows its status; a counter that is zero is left out,
// but for those that conditions compare.
func encodeDelivery(d hook.Delivery) (item, error) {
	data, err := packEvent(d.Event)
	if err != nil {
		return nil, err
	}
	it := deliveryKey(d.Key())
	it["status"] = str(string(d.Status))
	it["run"], it["seq"], it["attempt"], it["gen"] = num(d.Run), num(d.Seq), num(d.Attempt), num(d.Gen)
	it["source"], it["event"], it["data"] = str(d.Event.Source), str(d.Event.Event), bin(data)
	it["created_ms"], it["deadline_ms"] = num(d.CreatedMS), num(d.DeadlineMS)
	putNum(it, "tries", d.Tries)
	putNum(it, "parks", d.Parks)
	putNum(it, "nudges", d.Nudges)
	putStr(it, "reason", d.Reason)
	putStr(it, "slot", d.SlotKey)
	putStr(it, "snooze_key", d.SnoozeKey)

	if len(d.Attempts) > 0 {
		docs := make([]attemptDoc, len(d.Attempts))
		for i, a := range d.Attempts {
			docs[i] = attemptDoc{At: a.AtMS, Took: a.TookMS, Code: a.Code, Error: a.Error, IP: a.IP}
		}
		b, err := encodeJSON(docs)
		if err != nil {
			return nil, err
		}
		it["attempts"] = str(string(b))
	}
	if d.Response != nil {
		b, err := encodeJSON(responseDoc(*d.Response))
		if err != nil {
			return nil, err
		}
		if len(b) > maxItem {
			// Whoever made it bounds it: this is a mistake, and not to be
			// squeezed in.
			return nil, fmt.Errorf("response of %d bytes: an item takes %d", len(b), maxItem)
		}
		if b, err = pack(b); err != nil {
			return nil, err
		}
		it["response"] = bin(b)
	}

	// The indexes hold what is not delivered (status) and what waits (due).
	if d.Status == hook.Pending {
		it["due_ms"] = num(d.DueMS)
		it["wake_shard"], it["wake_at"] = str(strconv.Itoa(d.Key().WakeShard())), num(d.WakeMS)
		putNum(it, "lease_ms", d.LeaseMS)
	} else {
		putNum(it, "expires_at", d.ExpiresAt)
	}
	if d.Status != hook.Delivered {
		it["status_key"] = str(statusKey(d.Status, d.HookID))
	}
	return it, nil
}

func statusKey(status hook.Status, hookID string) string { return string(status) + "#" + hookID }

// decodeDelivery reverses encodeDelivery.
func decodeDelivery(it item) (hook.Delivery, error) {
	key, ok := keyOf(it)
	if !ok {
		return hook.Delivery{}, errors.New("decode delivery: its key is not one")
	}
	r := reader{it: it}
	d := hook.Delivery{
		HookID: key.HookID,
		Event:  hook.Event{ID: key.EventID, Source: r.str("source"), Event: r.str("event")},
		Gen:    r.num("gen"), Status: hook.Status(r.str("status")), Reason: r.str("reason"),
		Run: r.num("run"), Attempt: r.num("attempt"), Seq: r.num("seq"), Tries: r.num("tries"),
		Parks: r.num("parks"), Nudges: r.num("nudges"),
		CreatedMS: r.num("created_ms"), DeadlineMS: r.num("deadline_ms"),
		DueMS: r.num("due_ms"), WakeMS: r.num("wake_at"), LeaseMS: r.num("lease_ms"),
		SlotKey: r.str("slot"), SnoozeKey: r.str("snooze_key"), ExpiresAt: r.num("expires_at"),
	}
	var attempts []attemptDoc
	r.json("attempts", []byte(r.str("attempts")), &attempts)
	for _, a := range attempts {
		d.Attempts = append(d.Attempts, hook.Attempt{AtMS: a.At, TookMS: a.Took, Code: a.Code, Error: a.Error, IP: a.IP})
	}
	if b := r.unpack("response"); b != nil {
		var doc responseDoc
		r.json("response", b, &doc)
		d.Response = (*hook.Response)(&doc)
	}
	if r.err == nil {
		r.err = unpackEvent(r.bytes("data"), &d.Event)
	}
	if r.err != nil {
		return hook.Delivery{}, fmt.Errorf("decode delivery %s: %w", key, r.err)
	}
	return d, nil
}

// CreateDelivery (W1) stores the first row of a delivery; false if one is there
// that has not expired: then nothing is written.
//
// One request. KB WCU; a pending row 1 more for each of its two index entries,
// a failed one 1 more.
func (s *Store) CreateDelivery(ctx context.Context, d hook.Delivery, now int64) (created bool, err error) {
	it, err := encodeDelivery(d)
	if err == nil {
		_, created, err = s.put(ctx, s.state, it, newMark(), condition{expr: gone, values: item{":sec": num(unixSeconds(now))}})
	}
	if err != nil {
		return false, fmt.Errorf("create delivery %s: %w", d.Key(), err)
	}
	return created, nil
}

// Delivery returns a row, or hook.ErrNotFound.
//
// One request, an RCU for each 4 KB.
func (s *Store) Delivery(ctx context.Context, key hook.DeliveryKey, now int64) (hook.Delivery, error) {
	var it item
	var err error
	if storable(key) {
		it, err = s.get(ctx, s.state, deliveryKey(key))
	}
	if err == nil && (it == nil || expired(it, now)) {
		err = hook.ErrNotFound
	}
	if err != nil {
		return hook.Delivery{}, fmt.Errorf("read delivery %s: %w", key, err)
	}
	return decodeDelivery(it)
}

// Deliveries returns those of the rows that exist, in any order.
//
// A request for each 100 keys, an RCU for each 4 KB of each row.
func (s *Store) Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error) {
	var ask []item
	for _, k := range keys {
		if storable(k) {
			ask = append(ask, deliveryKey(k))
		}
	}
	its, err := s.getAll(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("read %d deliveries: %w", len(keys), err)
	}
	var found []hook.Delivery
	for _, it := range its {
		if expired(it, now) {
			continue
		}
		d, err := decodeDelivery(it)
		if err != nil {
			return nil, err
		}
		found = append(found, d)
	}
	return found, nil
}

// statusName stands for the attribute status, whose name DynamoDB reserves.
var statusName = map[string]string{"#status": "status"}

// ClaimDelivery (W2) takes a pending row whose Seq is w.Seq for an attempt:
// Seq+1, Tries+1, LeaseMS and WakeMS = lease. It returns the row as it is then.
// hook.ErrStale when the row is not there, not pending, or at another Seq.
//
// One request, no read. KB + 3 WCU: the entry of the due index is replaced, that
// of the status index changed. A wake-up that is dropped: KB.
func (s *Store) ClaimDelivery(ctx context.Context, w hook.Wake, lease, _ int64) (hook.Delivery, error) {
	it, ok, err := s.update(ctx, deliveryKey(w.DeliveryKey),
		"SET seq = seq + :one, wake_at = :lease, lease_ms = :lease, w = :w ADD tries :one",
		newMark(), types.ReturnValueAllNew, condition{
			// No pending row ever expires, so there is no time to compare.
			expr:  "#status = :pending AND seq = :seq",
			names: statusName,
			values: item{
				":pending": str(string(hook.Pending)), ":seq": num(w.Seq), ":one": num(1), ":lease": num(lease),
			},
		})
	if err == nil && !ok {
		err = hook.ErrStale
	}
	if err != nil {
		return hook.Delivery{}, fmt.Errorf("claim delivery %s: %w", w, err)
	}
	return decodeDelivery(it)
}

// UpdateDelivery (W3) replaces a pending row whose Seq is d.Seq by d with
// Seq+1: after a failed attempt, a park, or an end other than delivered. It
// returns the new Seq. hook.ErrStale when the row is no longer so.
//
// One request. KB + 3 WCU, as ClaimDelivery.
func (s *Store) UpdateDelivery(ctx context.Context, d hook.Delivery, _ int64) (seq int64, err error) {
	seq, err = s.replaceDelivery(ctx, d, condition{
		expr: "#status = :pending AND seq = :seq", names: statusName,
		values: item{":pending": str(string(hook.Pending)), ":seq": num(d.Seq)},
	})
	if err != nil {
		return 0, fmt.Errorf("update delivery %s: %w", d.Key(), err)
	}
	return seq, nil
}

// RedeliverDelivery (W5) replaces a row of any status whose Seq is d.Seq by d
// with Seq+1. hook.ErrStale when the row is no longer so.
//
// One request. KB + 2 WCU for a delivered row, which has no index entries, else
// KB + 3.
func (s *Store) RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error) {
	seq, err = s.replaceDelivery(ctx, d, condition{
		expr: "seq = :seq AND (" + fresh + ")", values: item{":seq": num(d.Seq), ":sec": num(unixSeconds(now))},
	})
	if err != nil {
		return 0, fmt.Errorf("redeliver %s: %w", d.Key(), err)
	}
	return seq, nil
}

// replaceDelivery stores d with Seq+1, on a condition whose failure is
// hook.ErrStale.
func (s *Store) replaceDelivery(ctx context.Context, d hook.Delivery, c condition) (seq int64, err error) {
	d.Seq++
	it, err := encodeDelivery(d)
	if err != nil {
		return 0, err
	}
	_, ok, err := s.put(ctx, s.state, it, newMark(), c)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, hook.ErrStale
	}
	return d.Seq, nil
}

// RecordDelivered (W4) stores a row with status delivered, if there is none, or
// one of the same Run that is not delivered yet. false when something else is
// there: then nothing is written.
//
// One request. KB WCU for a delivery without a row, so 1 for most events; 2
// more when a pending row's index entries go.
func (s *Store) RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (recorded bool, err error) {
	d.Status, d.Seq = hook.Delivered, d.DeliveredSeq()
	it, err := encodeDelivery(d)
	if err == nil {
		_, recorded, err = s.put(ctx, s.state, it, newMark(), condition{
			expr: gone + " OR (run = :run AND #status <> :delivered)", names: statusName,
			values: item{":sec": num(unixSeconds(now)), ":run": num(d.Run), ":delivered": str(string(hook.Delivered))},
		})
	}
	if err != nil {
		return false, fmt.Errorf("record delivery %s: %w", d.Key(), err)
	}
	return recorded, nil
}

// NudgeDelivery (W6) moves a pending row's WakeMS from o.WakeMS to later and
// raises Nudges; Seq stays. false when the row is not so any more.
//
// One request. KB + 3 WCU.
func (s *Store) NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (nudged bool, err error) {
	_, nudged, err = s.update(ctx, deliveryKey(o.DeliveryKey),
		"SET wake_at = :later, w = :w ADD nudges :one",
		newMark(), types.ReturnValueNone, condition{
			expr: "#status = :pending AND wake_at = :read", names: statusName,
			values: item{":pending": str(string(hook.Pending)), ":read": num(o.WakeMS), ":later": num(later), ":one": num(1)},
		})
	if err != nil {
		return false, fmt.Errorf("nudge delivery %s: %w", o.Wake, err)
	}
	return nudged, nil
}

// OverdueDeliveries returns up to limit pending rows of a wake shard whose
// WakeMS has come, earliest first. It only suggests: what it says may be old.
//
// One request for each MB of entries, so in practice one; half an RCU for each
// 4 KB, which is about 25 rows.
func (s *Store) OverdueDeliveries(ctx context.Context, shard int, now int64, limit int) ([]hook.Overdue, error) {
	in := &dynamodb.QueryInput{
		TableName: s.state, IndexName: &dueIndex, KeyConditionExpression: &overdue,
		ExpressionAttributeValues: item{":shard": str(strconv.Itoa(shard)), ":now": num(now)},
	}
	var found []hook.Overdue
	page := int32(max(limit, 1))
	in.Limit = &page
	err := s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			key, ok := keyOf(it)
			if !ok {
				continue // what else waits for a sweep is not a delivery
			}
			r := reader{it: it}
			o := decodeOverdue(key, &r)
			if r.err != nil {
				return false, fmt.Errorf("decode delivery %s: %w", key, r.err)
			}
			found = append(found, o)
		}
		page = int32(limit - len(found))
		return page > 0, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read overdue deliveries of shard %d: %w", shard, err)
	}
	return found, nil
}

// decodeOverdue reads what both indexes hold of a pending row.
func decodeOverdue(key hook.DeliveryKey, r *reader) hook.Overdue {
	return hook.Overdue{
		Wake:   hook.Wake{DeliveryKey: key, Seq: r.num("seq")},
		WakeMS: r.num("wake_at"), Nudges: r.num("nudges"), DeadlineMS: r.num("deadline_ms"), Reason: r.str("reason"),
	}
}

// The StateTable's indexes, and what is asked of it: variables, because the SDK
// takes their addresses.
var (
	dueIndex    = "due"
	statusIndex = "status"

	overdue       = "wake_shard = :shard AND wake_at <= :now"
	ofStatus      = "status_key = :status"
	ofStatusUntil = "status_key = :status AND sk < :before"
	ofStatusFrom  = "status_key = :status AND sk > :after"
	inShard       = "pk = :pk"
	inShardUntil  = "pk = :pk AND sk < :before"
	inShardPrefix = "pk = :pk AND begins_with(sk, :prefix)"
	withStatus    = "#status = :status"
)

// ListDeliveries returns up to limit of a hook's rows, newest event first,
// whose event ids come before `before` ("" begins with the newest), and whether
// there are more. status "" means all. It only suggests: a row may have changed
// a moment ago. A page may be short while there are more. A limit below 1 is an
// error.
//
// Of status "" and delivered: 8 requests, one for each of the hook's
// partitions, and some more where events are unevenly spread; half an RCU for
// each 4 KB. Of the others: a request of the index and one of the table for
// each 100 rows; an RCU for each row.
func (s *Store) ListDeliveries(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) (page []hook.Delivery, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list deliveries of hook %s: limit %d", hookID, limit)
	}
	if before != "" && !storableKey(before) {
		// Not the id of an event, which is far shorter: what is before the part
		// that can be asked for is before it.
		if before = startKey(before); before == "" {
			return nil, false, nil
		}
	}
	if status == "" || status == hook.Delivered {
		page, err = s.listShards(ctx, hookID, status, before, limit+1, now)
	} else {
		page, err = s.listStatus(ctx, hookID, status, before, limit+1, now)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list deliveries of hook %s: %w", hookID, err)
	}
	if len(page) > limit { // one more was asked for, to tell
		return page[:limit], true, nil
	}
	return page, false, nil
}

// PendingDeliveries returns up to limit of a hook's pending rows, oldest event
// first, whose event ids come after `after`, and whether there may be more. A
// page may be short, but is never empty, while more is true. It only suggests:
// what it says may be old. A limit below 1 is an error.
//
// One request, of the index alone, which reads a MB at most: over 4,000 rows.
// Half an RCU for each 4 KB, which is about 18 rows.
func (s *Store) PendingDeliveries(ctx context.Context, hookID, after string, limit int) (page []hook.Waiting, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list waiting deliveries of hook %s: limit %d", hookID, limit)
	}
	if len(hookID) > maxSortKey || !utf8.ValidString(hookID) {
		return nil, false, nil
	}
	size := int32(limit + 1) // one more, to tell whether there are more
	in := &dynamodb.QueryInput{
		TableName: s.state, IndexName: &statusIndex, KeyConditionExpression: &ofStatus, Limit: &size,
		ExpressionAttributeValues: item{":status": str(statusKey(hook.Pending, hookID))},
	}
	if start := startKey(after); start != "" {
		in.KeyConditionExpression, in.ExpressionAttributeValues[":after"] = &ofStatusFrom, str(start)
	}
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return nil, false, fmt.Errorf("list waiting deliveries of hook %s: %w", hookID, err)
		}
		for _, it := range out.Items {
			key, ok := keyOf(it)
			if !ok || key.EventID <= after {
				continue
			}
			r := reader{it: it}
			w := hook.Waiting{Overdue: decodeOverdue(key, &r), DueMS: r.num("due_ms"), LeaseMS: r.num("lease_ms")}
			if r.err != nil {
				return nil, false, fmt.Errorf("decode delivery %s: %w", key, r.err)
			}
			page = append(page, w)
		}
		switch left := len(out.LastEvaluatedKey) > 0; {
		case len(page) > limit:
			return page[:limit], true, nil
		case len(page) > 0 || !left:
			return page, left, nil
		}
		in.ExclusiveStartKey, in.Limit = out.LastEvaluatedKey, nil
	}
}

// listStatus lists rows by the status index, which names their keys.
func (s *Store) listStatus(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) ([]hook.Delivery, error) {
	backward, size := false, int32(min(limit, maxBatchGet))
	in := &dynamodb.QueryInput{
		TableName: s.state, IndexName: &statusIndex, KeyConditionExpression: &ofStatus, ScanIndexForward: &backward, Limit: &size,
		ExpressionAttributeValues: item{":status": str(statusKey(status, hookID))},
	}
	if before != "" {
		in.KeyConditionExpression, in.ExpressionAttributeValues[":before"] = &ofStatusUntil, str(before)
	}
	var found []hook.Delivery
	err := s.query(ctx, in, func(its []item) (bool, error) {
		keys := make([]hook.DeliveryKey, 0, len(its))
		for _, it := range its {
			if key, ok := keyOf(it); ok {
				keys = append(keys, key)
			}
		}
		rows, err := s.Deliveries(ctx, keys, now)
		if err != nil {
			return false, err
		}
		// The index is older than the rows: they say what they are.
		rows = slices.DeleteFunc(rows, func(d hook.Delivery) bool { return d.Status != status })
		slices.SortFunc(rows, newestFirst)
		found = append(found, rows...)
		return len(found) < limit, nil
	})
	return found[:min(len(found), limit)], err
}

func newestFirst(a, b hook.Delivery) int { return cmp.Compare(b.Event.ID, a.Event.ID) }

// listShards merges the partitions of a hook's rows.
func (s *Store) listShards(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) ([]hook.Delivery, error) {
	var shards [hook.DeliveryShards]shardList
	for i := range shards {
		// An even spread fills a page from the first answers.
		backward, size := false, int32(limit/hook.DeliveryShards+limit/16+4)
		in := &dynamodb.QueryInput{
			TableName: s.state, KeyConditionExpression: &inShard, ScanIndexForward: &backward, Limit: &size,
			ExpressionAttributeValues: item{":pk": str(deliveryPartition(hookID, i))},
		}
		if before != "" {
			in.KeyConditionExpression, in.ExpressionAttributeValues[":before"] = &inShardUntil, str(before)
		}
		if status != "" {
			// Left out at the table: a dead receiver's thousand failed rows do
			// not travel.
			in.FilterExpression, in.ExpressionAttributeNames = &withStatus, statusName
			in.ExpressionAttributeValues[":status"] = str(string(status))
		}
		shards[i].in = in
	}
	var found []hook.Delivery
	for len(found) < limit {
		// All that have run dry are asked at once.
		var wg sync.WaitGroup
		for i := range shards {
			if l := &shards[i]; len(l.rows) == 0 && !l.ended {
				wg.Go(func() { l.err = l.fill(ctx, s, now) })
			}
		}
		wg.Wait()
		var newest *shardList
		for i := range shards {
			l := &shards[i]
			if l.err != nil {
				return nil, l.err
			}
			if len(l.rows) > 0 && (newest == nil || newestFirst(l.rows[0], newest.rows[0]) < 0) {
				newest = l
			}
		}
		if newest == nil {
			break
		}
		found, newest.rows = append(found, newest.rows[0]), newest.rows[1:]
	}
	return found, nil
}

// shardList reads one partition of a hook's rows, newest first.
type shardList struct {
	in    *dynamodb.QueryInput // of the next page
	rows  []hook.Delivery      // read and not yet taken
	ended bool                 // there is nothing after rows
	err   error
}

// fill reads until there is a row, or none is left.
func (l *shardList) fill(ctx context.Context, s *Store, now int64) error {
	for len(l.rows) == 0 && !l.ended {
		out, err := s.client.Query(ctx, l.in)
		if err != nil {
			return err
		}
		for _, it := range out.Items {
			if expired(it, now) {
				continue
			}
			d, err := decodeDelivery(it)
			if err != nil {
				return err
			}
			l.rows = append(l.rows, d)
		}
		l.in.ExclusiveStartKey, l.ended = out.LastEvaluatedKey, len(out.LastEvaluatedKey) == 0
	}
	return nil
}
