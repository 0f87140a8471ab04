package boltqueue

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// A queue is a bucket "queue/<name>" with three of its own:
//
//	body  sequence number -> length of group (1 byte), group, body
//	meta  sequence number -> id (16), sent (8), due (8), receives (4), in flight (1)
//	due   due (8), sequence number (8) -> in flight (1)
//
// Numbers are big-endian; times are nanoseconds since 1970, so that due sorts
// by time. A body is written once: receiving rewrites only the small entries.
const (
	prefix   = "queue/"
	bodyName = "body"
	metaName = "meta"
	dueName  = "due"

	metaSize = 16 + 8 + 8 + 4 + 1
)

type messageID [16]byte

// newID returns a random UUID (version 4).
func newID() (id messageID, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("make message id: %w", err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id, nil
}

func (id messageID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// meta is what is known of a message besides its body.
type meta struct {
	id       messageID
	sent     time.Time
	due      time.Time // when it becomes visible, or became
	receives uint32
	inFlight bool // it was received, and neither deleted nor released; visible again if due has come
}

// dueKey is a key of the index by time.
type dueKey []byte

func newDueKey(due time.Time, seq uint64) dueKey {
	k := binary.BigEndian.AppendUint64(make(dueKey, 0, 16), uint64(due.UnixNano()))
	return binary.BigEndian.AppendUint64(k, seq)
}

func (k dueKey) at() time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(k))) }
func (k dueKey) seq() uint64   { return binary.BigEndian.Uint64(k[8:]) }

func flag(inFlight bool) []byte {
	if inFlight {
		return []byte{1}
	}
	return []byte{0}
}

func isInFlight(v []byte) bool { return len(v) == 1 && v[0] == 1 }

// bucket is a queue inside a transaction.
type bucket struct {
	tx                  *bbolt.Tx
	root, bodies, metas *bbolt.Bucket
	due                 *bbolt.Bucket
}

func create(tx *bbolt.Tx, name string) (bucket, error) {
	root, err := tx.CreateBucketIfNotExists([]byte(prefix + name))
	if err != nil {
		return bucket{}, err
	}
	for _, n := range []string{bodyName, metaName, dueName} {
		if _, err := root.CreateBucketIfNotExists([]byte(n)); err != nil {
			return bucket{}, err
		}
	}
	return open(tx, name), nil
}

// open returns a queue that create has made before.
func open(tx *bbolt.Tx, name string) bucket {
	root := tx.Bucket([]byte(prefix + name))
	return bucket{
		tx: tx, root: root,
		bodies: root.Bucket([]byte(bodyName)),
		metas:  root.Bucket([]byte(metaName)),
		due:    root.Bucket([]byte(dueName)),
	}
}

// freeAll makes visible at now what is in flight.
func (b bucket) freeAll(now time.Time) error {
	var busy []dueKey
	err := b.due.ForEach(func(k, v []byte) error {
		if isInFlight(v) {
			busy = append(busy, bytes.Clone(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range busy {
		m, err := b.meta(k.seq())
		if err != nil {
			return err
		}
		was := m.due
		if m.inFlight = false; m.due.After(now) {
			m.due = now
		}
		if err := b.move(k.seq(), was, m); err != nil {
			return err
		}
	}
	return nil
}

// add stores a message under a new sequence number.
func (b bucket) add(m meta, group, body string) error {
	seq, err := b.root.NextSequence()
	if err != nil {
		return err
	}
	v := make([]byte, 0, 1+len(group)+len(body))
	v = append(append(append(v, byte(len(group))), group...), body...)
	if err := b.bodies.Put(seqKey(seq), v); err != nil {
		return err
	}
	return b.put(seq, m)
}

// put stores a message's meta and its entry in the index.
func (b bucket) put(seq uint64, m meta) error {
	v := make([]byte, 0, metaSize)
	v = append(v, m.id[:]...)
	v = binary.BigEndian.AppendUint64(v, uint64(m.sent.UnixNano()))
	v = binary.BigEndian.AppendUint64(v, uint64(m.due.UnixNano()))
	v = binary.BigEndian.AppendUint32(v, m.receives)
	v = append(v, flag(m.inFlight)...)
	if err := b.metas.Put(seqKey(seq), v); err != nil {
		return err
	}
	return b.due.Put(newDueKey(m.due, seq), flag(m.inFlight))
}

// move stores a meta that was due at another time before.
func (b bucket) move(seq uint64, was time.Time, m meta) error {
	if err := b.due.Delete(newDueKey(was, seq)); err != nil {
		return err
	}
	return b.put(seq, m)
}

// meta returns a message's meta, or hook.ErrNotFound.
func (b bucket) meta(seq uint64) (meta, error) {
	v := b.metas.Get(seqKey(seq))
	if v == nil {
		return meta{}, fmt.Errorf("message %d: %w", seq, hook.ErrNotFound)
	}
	if len(v) != metaSize {
		return meta{}, fmt.Errorf("message %d: its entry has %d bytes, not %d", seq, len(v), metaSize)
	}
	return meta{
		id:       messageID(v[:16]),
		sent:     time.Unix(0, int64(binary.BigEndian.Uint64(v[16:]))),
		due:      time.Unix(0, int64(binary.BigEndian.Uint64(v[24:]))),
		receives: binary.BigEndian.Uint32(v[32:]),
		inFlight: isInFlight(v[36:]),
	}, nil
}

func (b bucket) body(seq uint64) (group, body string, err error) {
	v := b.bodies.Get(seqKey(seq))
	if len(v) == 0 || len(v) < 1+int(v[0]) {
		return "", "", fmt.Errorf("message %d: its body is not whole", seq)
	}
	n := 1 + int(v[0])
	return string(v[1:n]), string(v[n:]), nil
}

// remove forgets a message.
func (b bucket) remove(seq uint64, m meta) error {
	if err := b.due.Delete(newDueKey(m.due, seq)); err != nil {
		return err
	}
	if err := b.metas.Delete(seqKey(seq)); err != nil {
		return err
	}
	return b.bodies.Delete(seqKey(seq))
}

// bury moves a message to another queue, under its id and with its counts
// starting anew.
func (b bucket) bury(seq uint64, m meta, dead string) error {
	group, body, err := b.body(seq)
	if err != nil {
		return err
	}
	if err := b.remove(seq, m); err != nil {
		return err
	}
	m.receives, m.inFlight = 0, false
	return open(b.tx, dead).add(m, group, body)
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }
