// Package dynamostore keeps configuration, deliveries and what the services
// remember in two DynamoDB tables. Its promise is package storetest's.
//
// The ConfigTable (keys kind and id) holds configuration records, sealed where
// they hold secrets and there are keys, and, under the kind "epoch", one counter
// for each feed. The StateTable (keys pk and sk)
// holds
//
//	delivery#<hook>#<0..7>  <event id>      a delivery
//	change#<hook>           <slot key>      what on_change remembers
//	snooze#<hook>           <snooze key>    a suppression window
//	breaker#<hook>          <gen>           the failures in a row of a hook
//	probe#<upstream>        lease           the lease on an upstream, and its summary
//	probe#<upstream>        state#<address> what is known of a target's address
//	probe#<upstream>        order#<id>      an operator's word on a target's health
//	probe#<upstream>        watch           until when somebody wants fresh results
//	probed                  <upstream>      an upstream that has states
//	ingest#<token>          <key>           an Idempotency-Key
//	token#<id>              used            when a token was last used
//
// Items are built by hand from attribute values; what nobody queries is packed
// into one attribute. Every write carries a random mark in the attribute w: the
// SDK repeats a request whose answer was lost, and a condition that fails
// because our own mark is there already is a success.
//
// The costs given with each method are the requests it makes when nobody gets
// in between, and the capacity units that DynamoDB bills on demand: a WCU for
// each KB of an item written, an RCU for each 4 KB read, half of that for an
// eventually consistent read, double for either inside a transaction. KB
// stands for the size of the item in KB, rounded up; what a failed condition
// has looked at is billed like a write.
package dynamostore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

// Store is a store on DynamoDB. It is safe for concurrent use, by any number
// of processes on the same tables.
type Store struct {
	client *dynamodb.Client
	config *string // name of the ConfigTable
	state  *string // name of the StateTable
	keys   Keys    // for documents that hold secrets

	probed probedUpstreams
}

// New returns a store on two tables that exist, which seals nothing (Sealed
// does). The client's retries stay on: they are what rides out throttling and
// lost connections.
func New(client *dynamodb.Client, configTable, stateTable string) *Store {
	return &Store{client: client, config: &configTable, state: &stateTable, keys: noKeys{}}
}

// tries bounds how often a write is tried again because others got in between.
const tries = 10

// newMark returns a mark for one write.
func newMark() string { return strconv.FormatUint(rand.Uint64(), 36) }

// marked reports whether an item is as the write with that mark has left it.
func marked(it item, mark string) bool {
	w, ok := it["w"].(*types.AttributeValueMemberS)
	return ok && w.Value == mark
}

// unixSeconds is the second that a time in milliseconds is in.
func unixSeconds(ms int64) int64 { return ms / 1000 }

// DynamoDB removes what has expired days late, so that every condition and
// every read compares the time itself. gone holds where nothing is, or
// something expired; fresh where what is there has not expired (beside a
// condition that only an item fulfils). Both take the value :sec.
const (
	gone  = "attribute_not_exists(pk) OR expires_at <= :sec"
	fresh = "attribute_not_exists(expires_at) OR expires_at > :sec"
)

// expired is the same comparison for an item that was read.
func expired(it item, now int64) bool {
	r := reader{it: it}
	at := r.num("expires_at")
	return at != 0 && at <= unixSeconds(now)
}

// How long the parts of a key may be, in bytes.
const (
	maxPartitionKey = 2048
	maxSortKey      = 1024
)

// storableKey reports whether DynamoDB takes the sort key, and as it is:
// encoding/json would mend what is not UTF-8, into another key.
func storableKey(key string) bool {
	return key != "" && len(key) <= maxSortKey && utf8.ValidString(key)
}

// startKey returns as much of a key as DynamoDB takes, "" for nothing, so that
// a list can begin after any: no stored key that comes after all of it is left
// out, but some that come before may be among them. Callers leave those out.
func startKey(after string) string {
	end := 0
	for end < len(after) {
		r, n := utf8.DecodeRuneInString(after[end:])
		if r == utf8.RuneError && n == 1 || end+n > maxSortKey {
			break
		}
		end += n
	}
	return after[:end]
}

// sortKey returns the sort key of a caller's key: the key itself, or a hash of
// one that DynamoDB does not take (empty, or too long), or that could be
// mistaken for such a hash.
func sortKey(key string) string {
	const prefix = "sha256#"
	if key != "" && len(key) <= maxSortKey && !strings.HasPrefix(key, prefix) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return prefix + hex.EncodeToString(sum[:])
}

// stateKey returns the primary key of an item of the StateTable.
func stateKey(pk, sk string) item { return item{"pk": str(pk), "sk": str(sk)} }

// condition is a condition on a write, with the names and values it speaks of.
type condition struct {
	expr   string
	names  map[string]string
	values item
}

// put stores an item of which mark is the attribute w, if the condition holds.
// If it does not, ok is false and old is the item that is there, nil for none.
func (s *Store) put(ctx context.Context, table *string, it item, mark string, c condition) (old item, ok bool, err error) {
	it["w"] = str(mark)
	in := &dynamodb.PutItemInput{
		TableName: table, Item: it,
		ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
	}
	if c.expr != "" {
		in.ConditionExpression = &c.expr
		in.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	err = s.settled(ctx, func() error {
		_, err := s.client.PutItem(ctx, in)
		return err
	})
	return judged(err, mark)
}

// update changes an item, if the condition holds; the update sets w to :w,
// which is mark. attrs are the attributes that `returns` asks for. If the
// condition does not hold, ok is false and attrs is the item that is there,
// nil for none.
func (s *Store) update(ctx context.Context, key item, set, mark string, returns types.ReturnValue, c condition) (attrs item, ok bool, err error) {
	c.values[":w"] = str(mark)
	in := &dynamodb.UpdateItemInput{
		TableName: s.state, Key: key, UpdateExpression: &set, ReturnValues: returns,
		ConditionExpression: &c.expr, ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	err = s.settled(ctx, func() error {
		out, err := s.client.UpdateItem(ctx, in)
		if err == nil {
			attrs = out.Attributes
		}
		return err
	})
	if err == nil {
		return attrs, true, nil
	}
	return judged(err, mark)
}

// judged tells a condition that did not hold from an error.
func judged(err error, mark string) (old item, ok bool, _ error) {
	if err == nil {
		return nil, true, nil
	}
	if failed, is := errors.AsType[*types.ConditionalCheckFailedException](err); is {
		return failed.Item, marked(failed.Item, mark), nil
	}
	return nil, false, err
}

// settled runs a write of one item until no transaction is in its way. The SDK
// does not try those again by itself.
func (s *Store) settled(ctx context.Context, write func() error) error {
	for try := 1; ; try++ {
		err := write()
		if _, conflict := errors.AsType[*types.TransactionConflictException](err); !conflict {
			return err
		}
		if try == tries {
			return fmt.Errorf("%w: %w", hook.ErrBusy, err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// transact runs a transaction: all of its writes or none. When conditions did
// not hold it returns the reasons, one for each write, in their order. Every
// item it puts carries mark as w. hook.ErrBusy when others kept getting in
// between.
func (s *Store) transact(ctx context.Context, mark string, writes []types.TransactWriteItem) (refused []types.CancellationReason, err error) {
	for try := 1; ; try++ {
		// The SDK repeats a request whose answer was lost with the same token,
		// and DynamoDB then answers what became of the first. A cancelled
		// transaction is over: the next try is another one.
		token := mark + "-" + strconv.Itoa(try)
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes, ClientRequestToken: &token})
		if err == nil {
			return nil, nil
		}
		cancelled, is := errors.AsType[*types.TransactionCanceledException](err)
		if !is {
			return nil, err
		}
		switch reason(cancelled.CancellationReasons, mark) {
		case done:
			return nil, nil
		case conditions:
			return cancelled.CancellationReasons, nil
		case others:
			if try == tries {
				return nil, fmt.Errorf("%w: %w", hook.ErrBusy, err)
			}
			if err := pause(ctx, try); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// Why a transaction was cancelled.
type cause int

const (
	fault      cause = iota // it cannot be carried out
	others                  // others were writing the same items, or the table is throttled
	conditions              // conditions did not hold
	done                    // it was carried out before: our mark is there
)

// reason says why a transaction was cancelled. A condition that did not hold
// outweighs everything else: trying again would not change it. Our own mark
// outweighs even that: where one write took effect, all did.
func reason(reasons []types.CancellationReason, mark string) cause {
	c := fault
	for _, r := range reasons {
		if marked(r.Item, mark) {
			return done
		}
		switch code(r) {
		case conditionFailed:
			c = conditions
		case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
			c = max(c, others)
		}
	}
	return c
}

const conditionFailed = "ConditionalCheckFailed"

func code(r types.CancellationReason) string {
	if r.Code == nil {
		return ""
	}
	return *r.Code
}

// Pauses between tries: 10 ms, doubling, each anywhere between nothing and
// that.
const (
	firstPause  = 10 * time.Millisecond
	longestWait = time.Second
)

// pause waits before try+1, or returns the context's error.
func pause(ctx context.Context, try int) error {
	timer := time.NewTimer(rand.N(min(longestWait, firstPause<<try)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// get reads one item consistently; nil when it is not there.
func (s *Store) get(ctx context.Context, table *string, key item) (item, error) {
	consistent := true
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: table, Key: key, ConsistentRead: &consistent})
	if err != nil {
		return nil, err
	}
	if len(out.Item) == 0 {
		return nil, nil
	}
	return out.Item, nil
}

// maxBatchGet is how many keys a BatchGetItem takes.
const maxBatchGet = 100

// getAll reads those of the StateTable's items that exist, consistently, in
// any order.
func (s *Store) getAll(ctx context.Context, keys []item) ([]item, error) {
	// DynamoDB refuses a key that comes twice.
	seen := make(map[string]bool, len(keys))
	var left, found []item
	for _, key := range keys {
		r := reader{it: key}
		if id := r.str("pk") + "\x00" + r.str("sk"); !seen[id] {
			seen[id] = true
			left = append(left, key)
		}
	}
	consistent := true
	for try := 1; len(left) > 0; try++ {
		ask := left[:min(len(left), maxBatchGet)]
		out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			*s.state: {Keys: ask, ConsistentRead: &consistent},
		}})
		if err != nil {
			return nil, err
		}
		for _, its := range out.Responses { // of the one table; its key may be its ARN
			found = append(found, its...)
		}
		var unread []item
		for _, u := range out.UnprocessedKeys {
			unread = append(unread, u.Keys...)
		}
		left = append(unread, left[len(ask):]...)
		switch {
		case len(unread) < len(ask):
			try = 0 // it goes on
		case try == tries:
			return nil, fmt.Errorf("%d keys stay unprocessed: the table is throttled", len(left))
		}
		if len(unread) > 0 {
			if err := pause(ctx, try+1); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// query calls each page of a query's items until there are no more, or each
// returns false.
func (s *Store) query(ctx context.Context, in *dynamodb.QueryInput, each func([]item) (bool, error)) error {
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return err
		}
		more, err := each(out.Items)
		if err != nil || !more || len(out.LastEvaluatedKey) == 0 {
			return err
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}
