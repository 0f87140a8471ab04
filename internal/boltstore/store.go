// Package boltstore keeps everything the services store in one bbolt file:
// what DynamoDB's two tables are in AWS, embedded. It keeps the promise of
// package storetest, and a write that was acknowledged survives the process
// and the machine.
//
// One process at a time has the file open; a queue may share it.
package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"eventhooks/internal/groupcommit"
)

// Options are what a store can be told. The zero value is what local mode uses.
type Options struct {
	// Strict makes the store as unkind as DynamoDB where callers could come to
	// rely on more than is promised: reads that only suggest miss the very
	// latest write, once. For tests.
	Strict bool
	// PageBytes is the size of what is read after which a page ends, however
	// few records it has: 1 MB when 0, as in DynamoDB. Tests make it small.
	PageBytes int
	// NoSync leaves it to the operating system when a write reaches the disk:
	// faster, and gone if the machine stops. For tests. It holds for the whole
	// file.
	NoSync bool
	// Commits are shared with whoever else writes to the same file; nil shares
	// with nobody.
	Commits *groupcommit.Committer
}

// defaultPageBytes is DynamoDB's: a query reads a megabyte at most.
const defaultPageBytes = 1 << 20

// Store is a store in a bbolt file. It is safe for concurrent use.
type Store struct {
	db    *bbolt.DB
	owned bool // Close closes db
	o     Options
	turn  *groupcommit.Committer
	// What reads that only suggest are to miss; Options.Strict.
	stale        staleness
	staleBreaker breakerStaleness
}

// lockWait bounds how long Open waits for another process to let go of the
// file: a predecessor that is just ending, not one that goes on.
const lockWait = time.Second

// Open opens the file, making it if there is none. Its folder must exist. It
// is an error if another process has the file open.
func Open(path string, o Options) (*Store, error) {
	// 0600: the file holds secrets in the clear.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open store %s: another process has it open", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s, err := New(db, o)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.owned = true
	return s, nil
}

// New makes a store in an open file, which stays the caller's to close. All
// its buckets have names that begin with "store/".
func New(db *bbolt.DB, o Options) (*Store, error) {
	if o.PageBytes == 0 {
		o.PageBytes = defaultPageBytes
	}
	if o.NoSync {
		db.NoSync = true
	}
	if err := db.Update(prepare); err != nil {
		return nil, fmt.Errorf("prepare store %s: %w", db.Path(), err)
	}
	if !o.NoSync {
		syncFolder(filepath.Dir(db.Path()))
	}
	if o.Commits == nil {
		o.Commits = groupcommit.New(db)
	}
	return &Store{db: db, o: o, turn: o.Commits}, nil
}

// syncFolder makes a new file's name as lasting as its content, which bbolt
// syncs. Where a folder cannot be synced, the system sees to it by itself.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

// Close ends the store, and closes the file if Open opened it.
func (s *Store) Close() error {
	if !s.owned {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// form is the version of how the file is written. Fields are only ever added
// at the end of an item, which needs no new version: a reader takes what is
// missing for zero and does not look at what is beyond what it knows.
const form = 1

var (
	metaBucket = []byte("store/meta")
	formKey    = []byte("form")
)

// prepare makes the buckets that are missing, and refuses a file of a later
// form.
func prepare(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if v := meta.Get(formKey); v != nil {
		if n, _ := binary.Uvarint(v); n != form {
			return fmt.Errorf("it is of form %d, this program knows form %d", n, form)
		}
	} else if err := meta.Put(formKey, binary.AppendUvarint(nil, form)); err != nil {
		return err
	}
	for _, name := range [][]byte{epochs, expiries, changed, due, byStatus, breakDue} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if _, err := tx.CreateBucketIfNotExists(t.name); err != nil {
			return err
		}
	}
	return nil
}

// view runs fn on a snapshot of the file.
func (s *Store) view(ctx context.Context, fn func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(fn)
}

// update runs fn in a transaction and returns when it is on the disk; an error
// of fn undoes what it did. fn may run more than once, and beside the fn of
// other callers: so it sets what it answers each time anew, and answers a
// condition that does not hold without an error, having written nothing.
func (s *Store) update(ctx context.Context, fn func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.turn.Commit(fn)
}
