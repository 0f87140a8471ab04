package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"eventhooks/internal/hook"
	"eventhooks/internal/seal"
)

// sealedKinds are the kinds whose documents hold secrets: those of hooks, the
// header values of both, and URLs that are secrets themselves.
var sealedKinds = []string{hook.KindHook, hook.KindUpstream}

// sealedField is the attribute of a record whose document is sealed; data is
// that of one in the clear. A record has one of them.
const sealedField = "sealed"

// Keys are what documents are sealed and opened with. They are safe for
// concurrent use.
type Keys interface {
	// Current returns the key to seal with; ok is false when documents are to
	// be stored in the clear.
	Current(ctx context.Context) (key *seal.Key, ok bool, err error)
	// Key returns the key that a document names, or an error, which is
	// seal.ErrNoKey where there are no keys at all.
	Key(ctx context.Context, id seal.ID) (*seal.Key, error)
	// Choose says what Current is from now on: "current" makes a key if there
	// is none, "new" always, "none" has documents stored in the clear.
	Choose(ctx context.Context, which string) error
}

// noKeys are the keys of a store that was given none: nothing is sealed, and
// what is sealed cannot be read.
type noKeys struct{}

func (noKeys) Current(context.Context) (*seal.Key, bool, error) { return nil, false, nil }
func (noKeys) Key(context.Context, seal.ID) (*seal.Key, error)  { return nil, seal.ErrNoKey }
func (noKeys) Choose(context.Context, string) error {
	return errors.New("there are no keys to choose from")
}

// Sealed returns a store on the same tables whose documents of hooks and
// upstreams are sealed when they are written, so that nobody reads a secret in
// the ConfigTable, nor in a backup of it. What was written in the clear can be
// read as before, and is sealed when it is written next.
//
// keys may read what they need from the store that Sealed is called on.
func (s *Store) Sealed(keys Keys) *Store {
	return &Store{client: s.client, config: s.config, state: s.state, keys: keys}
}

// ConfigTable returns the table's name.
func (s *Store) ConfigTable() string { return *s.config }

// sealer returns the key for writing records of these kinds, nil when they are
// to be stored in the clear.
func (s *Store) sealer(ctx context.Context, changes []hook.Change) (*seal.Key, error) {
	for _, c := range changes {
		if secret(c.Record) {
			return s.current(ctx)
		}
	}
	return nil, nil
}

// current is Keys.Current, with nil for none.
func (s *Store) current(ctx context.Context) (*seal.Key, error) {
	key, ok, err := s.keys.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the key to seal with: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return key, nil
}

// secret reports whether the record has a document that may hold secrets.
func secret(r hook.Record) bool {
	if r.Deleted || r.Data == nil {
		return false
	}
	for _, kind := range sealedKinds {
		if r.Kind == kind {
			return true
		}
	}
	return false
}

func place(kind, id string) seal.Place { return seal.Place{Kind: kind, ID: id, Field: "data"} }

// sealRecord is encodeRecord, with the document sealed if there is a key and it
// may hold secrets.
func sealRecord(r hook.Record, key *seal.Key) item {
	if key == nil || !secret(r) {
		return encodeRecord(r)
	}
	sealed := key.Seal(r.Data, place(r.Kind, r.ID))
	r.Data = nil
	it := encodeRecord(r)
	it[sealedField] = bin(sealed)
	return it
}

// openRecord reverses sealRecord.
func (s *Store) openRecord(ctx context.Context, it item) (hook.Record, error) {
	rec, err := decodeRecord(it)
	if err != nil || it[sealedField] == nil {
		return rec, err
	}
	r := reader{it: it}
	sealed := r.bytes(sealedField)
	plain, err := s.open(ctx, rec, sealed)
	if err := errors.Join(r.err, err); err != nil {
		return hook.Record{}, fmt.Errorf("open %s %s: %w", rec.Kind, rec.ID, err)
	}
	rec.Data = plain
	return rec, nil
}

func (s *Store) open(ctx context.Context, rec hook.Record, sealed []byte) ([]byte, error) {
	id, err := seal.KeyOf(sealed)
	if err != nil {
		return nil, err
	}
	key, err := s.keys.Key(ctx, id)
	if err != nil {
		return nil, err
	}
	return key.Open(sealed, place(rec.Kind, rec.ID))
}

// resealMargin is how long before the context's deadline Reseal stops.
const resealMargin = 5 * time.Second

// Reseal chooses under what documents are stored from now on, "current", "new"
// or "none", as Keys has it, and writes those anew that are stored otherwise.
// Readers notice nothing: what a document says stays as it is, its Changed too.
// It returns how many it wrote, and whether it stopped because its time was
// over; the next call goes on.
//
// One request for each MB, and one for each document that it writes.
func (s *Store) Reseal(ctx context.Context, which string) (written int, more bool, err error) {
	if err := s.keys.Choose(ctx, which); err != nil {
		return 0, false, fmt.Errorf("choose key: %w", err)
	}
	key, err := s.current(ctx)
	if err != nil {
		return 0, false, err
	}
	for _, kind := range sealedKinds {
		consistent := true
		err := s.query(ctx, &dynamodb.QueryInput{
			TableName: s.config, KeyConditionExpression: &ofKind, ConsistentRead: &consistent,
			ExpressionAttributeValues: item{":kind": str(kind)},
		}, func(its []item) (bool, error) {
			for _, it := range its {
				if end, ok := ctx.Deadline(); ok && time.Until(end) < resealMargin {
					more = true
					return false, nil
				}
				ok, err := s.reseal(ctx, it, key)
				if err != nil {
					return false, err
				}
				if ok {
					written++
				}
			}
			return true, nil
		})
		if err != nil || more {
			return written, more, err
		}
	}
	return written, false, nil
}

// reseal writes an item anew, if its document is stored otherwise than with
// key. Nothing is done to one that was written since it was read: its writer
// had the key as well.
func (s *Store) reseal(ctx context.Context, it item, key *seal.Key) (written bool, err error) {
	rec, err := decodeRecord(it)
	if err != nil {
		return false, err
	}
	r := reader{it: it}
	sealed := r.bytes(sealedField)
	if sealed != nil {
		if key != nil {
			if id, err := seal.KeyOf(sealed); err == nil && id == key.ID() {
				return false, nil
			}
		}
		if rec, err = s.openRecord(ctx, it); err != nil {
			return false, err
		}
	} else if key == nil || !secret(rec) {
		return false, nil
	}
	// The mark is another with each write.
	c := condition{expr: "w = :w", values: item{":w": it["w"]}}
	_, written, err = s.put(ctx, s.config, sealRecord(rec, key), newMark(), c)
	return written, err
}
