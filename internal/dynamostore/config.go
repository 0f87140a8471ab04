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
	"eventhooks/internal/seal"
)

// kindEpoch is the kind of the feeds' counters. No record has it.
const kindEpoch = "epoch"

// tombstoneAge is how long a deleted record is remembered, in seconds: a
// reader of the feed that looks less often loads afresh.
const tombstoneAge = 24 * 60 * 60

// maxWrites bounds the changes and rows of one Write: with the epoch, a
// transaction takes 100.
const maxWrites = 90

// The index of the ConfigTable, and what is asked of the table.
var (
	changedIndex = "changed"

	ofKind       = "kind = :kind"
	ofKindAfter  = "kind = :kind AND id > :after"
	ofKindPrefix = "kind = :kind AND begins_with(id, :prefix)"
	ofKindSince  = "kind = :kind AND changed > :since"
)

func configKey(kind, id string) item { return item{"kind": str(kind), "id": str(id)} }

// encodeRecord returns the item of a record in the clear, without its mark.
func encodeRecord(r hook.Record) item {
	it := configKey(r.Kind, r.ID)
	putNum(it, "changed", r.Changed)
	putNum(it, "expires_at", r.ExpiresAt)
	switch {
	case r.Deleted:
		it["deleted"] = boolean(true)
	case r.Data == nil:
	case utf8.Valid(r.Data):
		it["data"] = str(string(r.Data)) // a person who looks at the table can read it
	default:
		it["data"] = bin(r.Data)
	}
	return it
}

// decodeRecord reverses encodeRecord.
func decodeRecord(it item) (hook.Record, error) {
	r := reader{it: it}
	rec := hook.Record{
		Kind: r.str("kind"), ID: r.str("id"), Changed: r.num("changed"), Deleted: r.bool("deleted"),
		Data: r.bytes("data"), ExpiresAt: r.num("expires_at"),
	}
	if r.err != nil {
		return hook.Record{}, fmt.Errorf("decode %s %s: %w", rec.Kind, rec.ID, r.err)
	}
	return rec, nil
}

// Epoch returns the feed's epoch, 0 before the first write.
//
// One request, 1 RCU.
func (s *Store) Epoch(ctx context.Context, feed hook.Feed) (int64, error) {
	n, err := s.epoch(ctx, feed)
	if err != nil {
		return 0, fmt.Errorf("read epoch of %s: %w", feed, err)
	}
	return n, nil
}

// Warm makes a cheap call: the first one pays for the connection.
func (s *Store) Warm(ctx context.Context) error {
	_, err := s.Epoch(ctx, hook.FeedHooks)
	return err
}

func (s *Store) epoch(ctx context.Context, feed hook.Feed) (int64, error) {
	it, err := s.get(ctx, s.config, configKey(kindEpoch, string(feed)))
	if err != nil {
		return 0, err
	}
	r := reader{it: it}
	return r.num("n"), r.err
}

// Get returns a record, or hook.ErrNotFound (also for a tombstone and for an
// expired one).
//
// One request, an RCU for each 4 KB. What is sealed may take, once for each key,
// another of 1 RCU and a request to KMS; that goes for List and Changes too.
func (s *Store) Get(ctx context.Context, kind, id string, now int64) (hook.Record, error) {
	// Under what DynamoDB does not take for a key, nothing is stored.
	if kind == "" || !storableKey(id) {
		return hook.Record{}, fmt.Errorf("read %s %s: %w", kind, id, hook.ErrNotFound)
	}
	it, err := s.get(ctx, s.config, configKey(kind, id))
	if err != nil {
		return hook.Record{}, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	rec, err := s.openRecord(ctx, it)
	if err != nil {
		return hook.Record{}, err
	}
	if it == nil || rec.Deleted || expired(it, now) {
		return hook.Record{}, fmt.Errorf("read %s %s: %w", kind, id, hook.ErrNotFound)
	}
	return rec, nil
}

// List returns up to limit live records of a kind whose ids begin with prefix
// and come after `after`, in the order of their ids, and whether there are
// more. A limit below 1 is an error.
//
// One request, however many records there are before and after the page. One
// more for each MB, and some where tombstones leave the page short: each reads
// four times as many as the one before. An RCU for each 4 KB of all that is
// read, which is the page and one more record, and the tombstones in between.
func (s *Store) List(ctx context.Context, kind, prefix, after string, limit int, now int64) (page []hook.Record, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list %s: limit %d", kind, limit)
	}
	if prefix != "" && !storableKey(prefix) {
		return nil, false, nil
	}
	start := startKey(after)
	consistent, size := true, int32(limit+1) // one more, to tell whether there are more
	in := &dynamodb.QueryInput{
		TableName: s.config, KeyConditionExpression: &ofKind, ConsistentRead: &consistent, Limit: &size,
		ExpressionAttributeValues: item{":kind": str(kind)},
	}
	switch {
	case prefix == "" && start != "":
		in.KeyConditionExpression, in.ExpressionAttributeValues[":after"] = &ofKindAfter, str(start)
	case prefix != "":
		in.KeyConditionExpression, in.ExpressionAttributeValues[":prefix"] = &ofKindPrefix, str(prefix)
		switch {
		case strings.HasPrefix(after, prefix):
			// A key condition takes one comparison of the sort key; where to
			// begin can be said apart, if it lies within.
			in.ExclusiveStartKey = configKey(kind, start)
		case after > prefix:
			return nil, false, nil // behind all of them
		}
	}
	err = s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			rec, err := s.openRecord(ctx, it)
			if err != nil {
				return false, err
			}
			if rec.ID > after && !rec.Deleted && !expired(it, now) {
				page = append(page, rec)
			}
		}
		size = min(4*size, 1<<20) // so that thousands of tombstones take a few requests
		return len(page) <= limit, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", kind, err)
	}
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}

// Changes returns all records of a kind with Changed > since, tombstones
// included, in the order of Changed. A write that is in flight may show in one
// kind before the other, and after the epoch.
//
// A request for each MB; an RCU for each 4 KB of all of them together, at least
// 1.
func (s *Store) Changes(ctx context.Context, kind string, since int64) ([]hook.Record, error) {
	consistent := true // a local index can be
	in := &dynamodb.QueryInput{
		TableName: s.config, IndexName: &changedIndex, KeyConditionExpression: &ofKindSince, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":kind": str(kind), ":since": num(since)},
	}
	var found []hook.Record
	err := s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			rec, err := s.openRecord(ctx, it)
			if err != nil {
				return false, err
			}
			found = append(found, rec)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list changes of %s: %w", kind, err)
	}
	return found, nil
}

// Write stores all changes and all rows, or nothing, raises the feed's epoch
// by one and returns it (W8).
//
// With a feed: one read of 1 RCU and one transaction; 2 WCU for the epoch,
// twice KB + the index entry's KB for each record, twice the cost of
// CreateDelivery for each row. A race for the epoch is another read and
// transaction; the lost one is billed. One change without a feed: one request,
// KB WCU. A store with keys reads which one is current, 1 RCU, before it writes
// what it seals.
func (s *Store) Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error) {
	if n := len(changes) + len(rows); n > maxWrites {
		return 0, fmt.Errorf("write %d records and rows: at most %d go together", n, maxWrites)
	}
	if feed == hook.FeedNone {
		if err := s.writeRecords(ctx, changes, rows, now); err != nil {
			return 0, fmt.Errorf("write records: %w", err)
		}
		return 0, nil
	}
	epoch, err = s.writeFeed(ctx, feed, changes, rows, now)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", feed, err)
	}
	return epoch, nil
}

// writeFeed is Write to a feed.
func (s *Store) writeFeed(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (int64, error) {
	key, err := s.sealer(ctx, changes)
	if err != nil {
		return 0, err
	}
	for try := 1; ; try++ {
		// Read anew for each try: what a refusal says is old after the pause,
		// and among many writers such a try would be lost before it is made.
		n, err := s.epoch(ctx, feed)
		if err != nil {
			return 0, err
		}
		mark := newMark()
		writes, err := s.recordWrites(changes, rows, key, n+1, mark, now)
		if err != nil {
			return 0, err
		}
		refused, err := s.transact(ctx, mark, append([]types.TransactWriteItem{s.epochWrite(feed, n, mark)}, writes...))
		if err != nil {
			return 0, err
		}
		if refused == nil {
			return n + 1, nil
		}
		if err := conflict(refused[1:], changes, rows); err != nil {
			return 0, err
		}
		// Only the epoch: another writer was first.
		if try == tries {
			return 0, hook.ErrBusy
		}
		if err := pause(ctx, try); err != nil {
			return 0, err
		}
	}
}

// epochWrite raises the feed's epoch from n.
func (s *Store) epochWrite(feed hook.Feed, n int64, mark string) types.TransactWriteItem {
	it := configKey(kindEpoch, string(feed))
	it["n"] = num(n + 1)
	c := condition{expr: "n = :n", values: item{":n": num(n)}}
	if n == 0 {
		c = condition{expr: "attribute_not_exists(kind)"}
	}
	return putWrite(s.config, it, mark, c)
}

// writeRecords is Write without a feed.
func (s *Store) writeRecords(ctx context.Context, changes []hook.Change, rows []hook.Delivery, now int64) error {
	mark := newMark()
	key, err := s.sealer(ctx, changes)
	if err != nil {
		return err
	}
	if len(changes) == 1 && len(rows) == 0 {
		ok, err := s.writeRecord(ctx, changes[0], key, mark, now)
		if err == nil && !ok {
			err = &hook.Conflict{Change: 0, Row: -1, Err: unmet(changes[0])}
		}
		return err
	}
	if len(changes)+len(rows) == 0 {
		return nil
	}
	writes, err := s.recordWrites(changes, rows, key, 0, mark, now)
	if err != nil {
		return err
	}
	refused, err := s.transact(ctx, mark, writes)
	if err != nil {
		return err
	}
	return conflict(refused, changes, rows)
}

// writeRecord makes one change without a feed and without a transaction, at
// half the price.
func (s *Store) writeRecord(ctx context.Context, c hook.Change, key *seal.Key, mark string, now int64) (ok bool, err error) {
	if !c.Record.Deleted {
		c.Record.Changed = 0
		_, ok, err = s.put(ctx, s.config, sealRecord(c.Record, key), mark, expectation(c, now))
		return ok, err
	}
	on := expectation(c, now)
	in := &dynamodb.DeleteItemInput{
		TableName: s.config, Key: configKey(c.Record.Kind, c.Record.ID), ExpressionAttributeValues: on.values,
	}
	if on.expr != "" {
		in.ConditionExpression = &on.expr
	}
	err = s.settled(ctx, func() error {
		_, err := s.client.DeleteItem(ctx, in)
		return err
	})
	_, ok, err = judged(err, mark)
	return ok, err
}

// recordWrites returns the writes of all changes, then of all rows, at an
// epoch, or at 0 for kinds without a feed. key seals what may hold secrets; nil
// leaves it in the clear.
func (s *Store) recordWrites(changes []hook.Change, rows []hook.Delivery, key *seal.Key, epoch int64, mark string, now int64) ([]types.TransactWriteItem, error) {
	writes := make([]types.TransactWriteItem, 0, len(changes)+len(rows))
	for _, c := range changes {
		c.Record.Changed = epoch
		on := expectation(c, now)
		if c.Record.Deleted && epoch == 0 {
			writes = append(writes, deleteWrite(s.config, configKey(c.Record.Kind, c.Record.ID), on))
			continue
		}
		if c.Record.Deleted && c.Record.ExpiresAt == 0 {
			c.Record.ExpiresAt = unixSeconds(now) + tombstoneAge
		}
		writes = append(writes, putWrite(s.config, sealRecord(c.Record, key), mark, on))
	}
	for _, d := range rows {
		if d.Gen == 0 {
			d.Gen = epoch
		}
		w, err := s.rowWrite(d, mark, now)
		if err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// rowWrite stores the first row of a delivery.
func (s *Store) rowWrite(d hook.Delivery, mark string, now int64) (types.TransactWriteItem, error) {
	it, err := encodeDelivery(d)
	if err != nil {
		return types.TransactWriteItem{}, fmt.Errorf("row %s: %w", d.Key(), err)
	}
	return putWrite(s.state, it, mark, condition{expr: gone, values: item{":sec": num(unixSeconds(now))}}), nil
}

// expectation is a change's condition on the record that is there.
func expectation(c hook.Change, now int64) condition {
	switch c.Expect {
	case hook.ExpectAny:
		return condition{}
	case hook.ExpectAbsent:
		return condition{
			expr:   "attribute_not_exists(kind) OR attribute_exists(deleted) OR expires_at <= :sec",
			values: item{":sec": num(unixSeconds(now))},
		}
	}
	return condition{
		expr:   "changed = :seen AND attribute_not_exists(deleted) AND (" + fresh + ")",
		values: item{":seen": num(c.Expect), ":sec": num(unixSeconds(now))},
	}
}

// unmet is the error of a change whose expectation does not hold.
func unmet(c hook.Change) error {
	if c.Expect == hook.ExpectAbsent {
		return hook.ErrExists
	}
	return hook.ErrStale
}

// conflict names the first change or row whose condition did not hold; nil when
// all did. The reasons are those of the changes, then of the rows.
func conflict(refused []types.CancellationReason, changes []hook.Change, rows []hook.Delivery) error {
	for i, r := range refused {
		switch {
		case code(r) != conditionFailed:
		case i < len(changes):
			return &hook.Conflict{Change: i, Row: -1, Err: unmet(changes[i])}
		case i < len(changes)+len(rows):
			return &hook.Conflict{Change: -1, Row: i - len(changes), Err: hook.ErrExists}
		default:
			return errors.New("a reason too many")
		}
	}
	return nil
}

// putWrite is a put as part of a transaction.
func putWrite(table *string, it item, mark string, c condition) types.TransactWriteItem {
	it["w"] = str(mark)
	p := &types.Put{TableName: table, Item: it, ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values}
	if c.expr != "" {
		p.ConditionExpression = &c.expr
		p.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	return types.TransactWriteItem{Put: p}
}

// deleteWrite is a delete as part of a transaction.
func deleteWrite(table *string, key item, c condition) types.TransactWriteItem {
	d := &types.Delete{TableName: table, Key: key, ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values}
	if c.expr != "" {
		d.ConditionExpression = &c.expr
	}
	return types.TransactWriteItem{Delete: d}
}
