// Package keyring holds the keys under which documents are sealed. Each is kept
// in the ConfigTable, wrapped by a key that never leaves AWS's KMS, and
// unwrapped once by each process that needs it.
//
// Records of kind "key" hold the wrapped keys, by their ids; the record
// "current" names the one that new documents are sealed under. Earlier ones
// stay: something may still be sealed under them.
package keyring

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"eventhooks/internal/hook"
	"eventhooks/internal/seal"
)

// current is the id of the record that names the current key.
const current = "current"

// version is the form of the records; a later one is refused.
const version = 1

// keyDoc is the record of a wrapped key.
type keyDoc struct {
	V       int    `json:"v"`
	KMSKey  string `json:"kms_key"` // ARN, for people: what wrapped it
	Wrapped []byte `json:"wrapped"`
	// Table is where the key was made. KMS wraps the key for this table and
	// this id, and for nothing else. It is kept, because a table that was
	// restored from a backup has another name.
	Table     string `json:"table"`
	CreatedAt int64  `json:"created_at"` // Unix seconds
}

// currentDoc names the current key.
type currentDoc struct {
	V   int    `json:"v"`
	Key string `json:"key"` // "" when documents are no longer to be sealed
}

// Records is where the wrapped keys are kept. now is Unix milliseconds.
type Records interface {
	// ConfigTable returns the table's name.
	ConfigTable() string
	// Get returns a record, read consistently, or hook.ErrNotFound.
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
	// Write stores all changes or none; an error that wraps hook.ErrExists when
	// one expected that nothing is there.
	Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error)
}

// Options of a Ring.
type Options struct {
	Records Records // required
	// KeyARN is the KMS key that wraps, or an alias of it; "" for a ring that
	// has no keys.
	KeyARN string
	AWS    aws.Config // for KMS; its region counts only where KeyARN names none
	Suffix string     // what the names of AWS's hosts end in: amazonaws.com
	// Makes is whether this ring makes the first key, and others when it is
	// told to: that needs kms:GenerateDataKey, the rest kms:Decrypt.
	Makes bool
	Now   func() time.Time // default time.Now
}

// Ring has the keys. It is safe for concurrent use.
type Ring struct {
	o   Options
	kms kms

	// turn holds a token while a key is unwrapped, so that those who need it at
	// the same time wait for one answer.
	turn chan struct{}
	mu   sync.Mutex
	keys map[seal.ID]*seal.Key // those that were unwrapped; failures are not kept
}

// New returns a ring that has unwrapped nothing yet.
func New(o Options) *Ring {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Ring{o: o, kms: newKMS(o.AWS, o.Suffix, o.KeyARN), turn: make(chan struct{}, 1), keys: map[seal.ID]*seal.Key{}}
}

// Current returns the key to seal with. ok is false when documents are to stay
// as they are: without a KMS key, after Choose("none"), or when there is no key
// yet and this ring does not make any.
//
// One read of the table; with a key that this process does not know yet, one
// more and a request to KMS.
func (r *Ring) Current(ctx context.Context) (key *seal.Key, ok bool, err error) {
	if r.o.KeyARN == "" {
		return nil, false, nil
	}
	for range 2 {
		id, known, err := r.named(ctx)
		switch {
		case err != nil:
			return nil, false, err
		case known && id == "", !known && !r.o.Makes:
			return nil, false, nil
		case known:
			parsed, err := seal.ParseID(id)
			if err != nil {
				return nil, false, fmt.Errorf("read current key: %w", err)
			}
			key, err = r.Key(ctx, parsed)
			return key, err == nil, err
		}
		key, err = r.make(ctx, hook.ExpectAbsent)
		if !errors.Is(err, hook.ErrExists) {
			return key, err == nil, err
		}
		// Another process was first: its key is the one.
	}
	return nil, false, fmt.Errorf("make first key: %w", hook.ErrBusy)
}

// named returns what the table says is the current key; known is false when it
// says nothing.
func (r *Ring) named(ctx context.Context) (id string, known bool, err error) {
	rec, err := r.o.Records.Get(ctx, hook.KindKey, current, r.nowMS())
	if errors.Is(err, hook.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	var doc currentDoc
	if err := decode(rec, &doc, &doc.V); err != nil {
		return "", false, err
	}
	return doc.Key, true, nil
}

// Key returns the key of that id, seal.ErrNoKey when the ring has no KMS key.
//
// Nothing is asked for a key that this process knows; else one read of the
// table and a request to KMS.
func (r *Ring) Key(ctx context.Context, id seal.ID) (*seal.Key, error) {
	if r.o.KeyARN == "" {
		return nil, seal.ErrNoKey
	}
	if key := r.known(id); key != nil {
		return key, nil
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for key %s: %w", id, ctx.Err())
	}
	if key := r.known(id); key != nil {
		return key, nil
	}
	rec, err := r.o.Records.Get(ctx, hook.KindKey, id.String(), r.nowMS())
	if errors.Is(err, hook.ErrNotFound) {
		// Not wrapped: the document is there, and must not be taken for missing.
		return nil, fmt.Errorf("key %s is not in the table", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	var doc keyDoc
	if err := decode(rec, &doc, &doc.V); err != nil {
		return nil, err
	}
	secret, err := r.kms.unwrap(ctx, doc.Wrapped, encryptionContext(doc.Table, id))
	if err != nil {
		return nil, fmt.Errorf("unwrap key %s, which %s wrapped: %w", id, doc.KMSKey, err)
	}
	return r.keep(id, secret)
}

// Choose says under what documents are sealed from now on: "current" for the
// key that is current, which is made if there is none yet; "new" for a new one;
// "none" to store them in the clear, by all rings, until it is told "new".
func (r *Ring) Choose(ctx context.Context, which string) error {
	if r.o.KeyARN == "" || !r.o.Makes {
		return errors.New("no key is set: set KMS_KEY_ARN (KmsKeyArn of template.yaml)")
	}
	switch which {
	case "current":
		_, _, err := r.Current(ctx)
		return err
	case "new":
		_, err := r.make(ctx, hook.ExpectAny)
		return err
	case "none":
		return r.write(ctx, nameCurrent("", hook.ExpectAny))
	}
	return fmt.Errorf("key %q is none of current, new, none", which)
}

// make makes a key and makes it the current one, if what names the current one
// is as expected.
func (r *Ring) make(ctx context.Context, expect int64) (*seal.Key, error) {
	var id seal.ID
	_, _ = rand.Read(id[:]) // never fails
	table := r.o.Records.ConfigTable()
	secret, wrapped, by, err := r.kms.generate(ctx, encryptionContext(table, id))
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	made := keyDoc{V: version, KMSKey: by, Wrapped: wrapped, Table: table, CreatedAt: r.o.Now().Unix()}
	// Both or nothing: a key that is named and not there would stop everything.
	err = r.write(ctx, change(id.String(), made, hook.ExpectAbsent), nameCurrent(id.String(), expect))
	if err != nil {
		return nil, err
	}
	return r.keep(id, secret)
}

func (r *Ring) write(ctx context.Context, changes ...hook.Change) error {
	if _, err := r.o.Records.Write(ctx, hook.FeedNone, changes, nil, r.nowMS()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

func nameCurrent(id string, expect int64) hook.Change {
	return change(current, currentDoc{V: version, Key: id}, expect)
}

func change(id string, doc any, expect int64) hook.Change {
	data, err := json.Marshal(doc)
	if err != nil {
		panic(err) // numbers and text
	}
	return hook.Change{Record: hook.Record{Kind: hook.KindKey, ID: id, Data: data}, Expect: expect}
}

func (r *Ring) known(id seal.ID) *seal.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[id]
}

func (r *Ring) keep(id seal.ID, secret []byte) (*seal.Key, error) {
	key, err := seal.NewKey(id, secret)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[id] = key
	return key, nil
}

func (r *Ring) nowMS() int64 { return r.o.Now().UnixMilli() }

// encryptionContext is what KMS authenticates beside a key, and shows in
// CloudTrail.
func encryptionContext(table string, id seal.ID) map[string]string {
	return map[string]string{"eventhooks:table": table, "eventhooks:key": id.String()}
}

func decode(rec hook.Record, doc any, v *int) error {
	if err := json.Unmarshal(rec.Data, doc); err != nil {
		return fmt.Errorf("decode key %s: %w", rec.ID, err)
	}
	if *v != version {
		return fmt.Errorf("decode key %s: it is of form %d, this program knows %d: deploy the newer version again", rec.ID, *v, version)
	}
	return nil
}
