package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// tombstoneSeconds is how long a deletion can be read in Changes.
const tombstoneSeconds = 24 * 60 * 60

// maxWrite bounds the changes and rows of one write.
const maxWrite = 90

// Epoch returns the feed's epoch, 0 before the first write.
func (s *Store) Epoch(ctx context.Context, feed hook.Feed) (int64, error) {
	var n int64
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		n = epoch(tx, feed)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read epoch of %s: %w", feed, err)
	}
	return n, nil
}

func epoch(tx *bbolt.Tx, feed hook.Feed) int64 {
	if v := tx.Bucket(epochs).Get([]byte(feed)); len(v) == 8 {
		return toNumber(v)
	}
	return 0
}

// Get returns a record, or hook.ErrNotFound.
func (s *Store) Get(ctx context.Context, kind, id string, now int64) (hook.Record, error) {
	var r hook.Record
	key, err := newKey(kind, id)
	if err != nil {
		err = hook.ErrNotFound // nothing is stored under what is no key
	} else {
		err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
			r, err = liveRecord(tx, key, now)
			return err
		})
	}
	if err != nil {
		return hook.Record{}, fmt.Errorf("get %s: %w", kind, err)
	}
	return r, nil
}

// liveRecord returns a record, or hook.ErrNotFound for what is not there, is
// deleted, or has expired.
func liveRecord(tx *bbolt.Tx, key []byte, now int64) (hook.Record, error) {
	i, ok, err := records.stored(tx, key)
	if err != nil {
		return hook.Record{}, err
	}
	if !ok || i.gone(now) {
		return hook.Record{}, hook.ErrNotFound
	}
	kind, id := splitKey(key)
	r, err := toRecord(kind, id, i)
	if err == nil && r.Deleted {
		err = hook.ErrNotFound
	}
	if err != nil {
		return hook.Record{}, err
	}
	return r, nil
}

// List returns up to limit live records of a kind whose ids begin with prefix
// and come after `after`, in the order of their ids, and whether there may be
// more. A page ends early at a megabyte. A limit below 1 is an error.
func (s *Store) List(ctx context.Context, kind, prefix, after string, limit int, now int64) (page []hook.Record, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list %s: limit %d", kind, limit)
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		more, err = s.page(tx, records, kind, prefix, after, limit, now, func(id string, i item) (bool, error) {
			r, err := toRecord(kind, id, i)
			if err != nil || r.Deleted {
				return false, err
			}
			page = append(page, r)
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", kind, err)
	}
	return page, more, nil
}

// Changes returns all records of a kind with Changed > since, tombstones
// included, in the order of Changed.
func (s *Store) Changes(ctx context.Context, kind string, since int64) ([]hook.Record, error) {
	var out []hook.Record
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		all := append([]byte(kind), 0)
		c := tx.Bucket(changed).Cursor()
		for k, _ := c.Seek(append(bytes.Clone(all), number(since+1)...)); bytes.HasPrefix(k, all); k, _ = c.Next() {
			id := string(k[len(all)+8:])
			i, ok, err := records.stored(tx, append(bytes.Clone(all), id...))
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("%s is in the index, not in the table", id)
			}
			r, err := toRecord(kind, id, i)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read changes of %s since %d: %w", kind, since, err)
	}
	return out, nil
}

// Write stores all changes and all rows, or nothing, and raises the feed's
// epoch (protocol W8).
func (s *Store) Write(ctx context.Context, feed hook.Feed, changes []hook.Change, newRows []hook.Delivery, now int64) (int64, error) {
	var (
		n    int64
		lost *hook.Conflict
	)
	keys, rowKeys, err := keysOf(changes, newRows)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			n, lost = 0, nil
			for i, c := range changes {
				err := holds(tx, keys[i], c.Expect, now)
				if errors.Is(err, hook.ErrStale) || errors.Is(err, hook.ErrExists) {
					lost = &hook.Conflict{Change: i, Row: -1, Err: err}
					return nil
				}
				if err != nil {
					return err
				}
			}
			for i := range newRows {
				_, there, err := liveRow(tx, rowKeys[i], now)
				if err != nil {
					return err
				}
				if there {
					lost = &hook.Conflict{Change: -1, Row: i, Err: hook.ErrExists}
					return nil
				}
			}
			if feed != hook.FeedNone {
				n = epoch(tx, feed) + 1
				if err := tx.Bucket(epochs).Put([]byte(feed), number(n)); err != nil {
					return err
				}
			}
			size := 0
			for i, c := range changes {
				r := c.Record
				r.Changed = n
				wrote, err := putRecord(tx, keys[i], r, feed != hook.FeedNone, now)
				if err != nil {
					return fmt.Errorf("change %d: %w", i, err)
				}
				size += wrote
			}
			for i, d := range newRows {
				if d.Gen == 0 {
					d.Gen = n
				}
				wrote, err := s.putRow(tx, rowKeys[i], d)
				if err != nil {
					return fmt.Errorf("row %d: %w", i, err)
				}
				size += wrote
			}
			return checkWrite(size)
		})
	}
	if err == nil && lost != nil {
		err = lost
	}
	if err != nil {
		return 0, fmt.Errorf("write records: %w", err)
	}
	return n, nil
}

// keysOf returns the keys of changes and rows, all different and not too many.
func keysOf(changes []hook.Change, newRows []hook.Delivery) (keys, rowKeys [][]byte, err error) {
	if n := len(changes) + len(newRows); n > maxWrite {
		return nil, nil, fmt.Errorf("%d changes and rows, at most %d are allowed", n, maxWrite)
	}
	seen := map[string]bool{}
	for i, c := range changes {
		key, err := newKey(c.Record.Kind, c.Record.ID)
		if err == nil && seen[string(key)] {
			err = errors.New("its record is in an earlier change")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("change %d: %w", i, err)
		}
		seen[string(key)] = true
		keys = append(keys, key)
	}
	rowKeys, err = keysOfRows(newRows)
	return keys, rowKeys, err
}

// checkWrite refuses a transaction of more bytes than DynamoDB takes.
func checkWrite(size int) error {
	if size > maxWriteBytes {
		return fmt.Errorf("%d bytes, at most %d are allowed", size, maxWriteBytes)
	}
	return nil
}

// holds returns hook.ErrStale or hook.ErrExists when the expectation about the
// record does not hold.
func holds(tx *bbolt.Tx, key []byte, expect, now int64) error {
	r, err := liveRecord(tx, key, now)
	there := err == nil
	if err != nil && !errors.Is(err, hook.ErrNotFound) {
		return err
	}
	switch {
	case expect == hook.ExpectAny:
		return nil
	case expect == hook.ExpectAbsent && there:
		return hook.ErrExists
	case expect != hook.ExpectAbsent && (!there || r.Changed != expect):
		return hook.ErrStale
	}
	return nil
}

// putRecord stores a record, or deletes it, and returns the bytes written.
func putRecord(tx *bbolt.Tx, key []byte, r hook.Record, hasFeed bool, now int64) (int, error) {
	if err := unindexRecord(tx, key); err != nil {
		return 0, err
	}
	if r.Deleted {
		if !hasFeed {
			return 0, records.remove(tx, key)
		}
		r.Data = nil
		if r.ExpiresAt == 0 {
			r.ExpiresAt = now/1000 + tombstoneSeconds
		}
	}
	if hasFeed {
		if err := tx.Bucket(changed).Put(changedKey(r.Kind, r.ID, r.Changed), nil); err != nil {
			return 0, err
		}
	}
	i := item{r.ExpiresAt, recordDoc(r)}
	return i.size(key), records.put(tx, key, i)
}

// unindexRecord removes what the index of changes says of the stored record.
func unindexRecord(tx *bbolt.Tx, key []byte) error {
	i, ok, err := records.stored(tx, key)
	if err != nil || !ok {
		return err
	}
	kind, id := splitKey(key)
	old, err := toRecord(kind, id, i)
	if err != nil {
		return err
	}
	return tx.Bucket(changed).Delete(changedKey(kind, id, old.Changed))
}

func changedKey(kind, id string, n int64) []byte {
	return append(append(append([]byte(kind), 0), number(n)...), id...)
}
