package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"
)

// table is a bucket of items, each of which may expire. Its key has two parts,
// as in DynamoDB: items of one first part are neighbours, in the order of the
// second.
type table struct {
	name []byte
	mark byte // names the table in the expiry index
}

// The tables, and what the two parts of their keys are.
var (
	records = table{[]byte("store/records"), 'r'}    // kind, id
	rows    = table{[]byte("store/deliveries"), 'd'} // hook, event
	slots   = table{[]byte("store/slots"), 'c'}      // hook, slot key
	windows = table{[]byte("store/snoozes"), 's'}    // hook, snooze key
	leases  = table{[]byte("store/leases"), 'l'}     // leaseKey, upstream
	states  = table{[]byte("store/probes"), 'p'}     // upstream, address
	orders  = table{[]byte("store/orders"), 'o'}     // upstream, order
	watches = table{[]byte("store/watches"), 'w'}    // watchKey, upstream
	claims  = table{[]byte("store/claims"), 'i'}     // token, key
	breaks  = table{[]byte("store/breakers"), 'b'}   // hook, Gen as text
	uses    = table{[]byte("store/token-uses"), 'u'} // useKey, token

	tables = []table{records, rows, slots, windows, leases, states, orders, watches, claims, breaks, uses}
)

// Buckets beside the tables.
var (
	epochs = []byte("store/epochs") // feed -> epoch

	// Indexes: what is sought is in the key, in the order in which it is read.
	expiries = []byte("store/expiries")        // expiry, mark of the table, its key
	changed  = []byte("store/records-changed") // kind, Changed, id
	due      = []byte("store/deliveries-due")  // wake shard, WakeMS, key of the row -> Seq, Nudges, DeadlineMS, Reason; pending rows
	byStatus = []byte("store/deliveries-by")   // hook, status, event; rows that are not delivered
	breakDue = []byte("store/breakers-due")    // WakeMS, key of the breaker; those that are not closed
)

// Limits of DynamoDB, which every write keeps.
const (
	maxItemBytes  = 400 << 10
	maxWriteBytes = 4 << 20 // of one transaction
	maxFirstBytes = 2048    // of a key's first part
	maxRestBytes  = 1024    // of a key's second part
	// itemOverhead is what DynamoDB counts of an item beyond what is stored
	// here: the names of its attributes.
	itemOverhead = 1 << 10
)

// newKey joins the parts of a key. The first may hold no zero byte, so that no
// key is another's.
func newKey(first, rest string) ([]byte, error) {
	switch {
	case first == "" || rest == "":
		return nil, fmt.Errorf("key %.100q, %.100q: a part is empty", first, rest)
	case strings.IndexByte(first, 0) >= 0:
		return nil, fmt.Errorf("key %.100q: it has a zero byte", first)
	case len(first) > maxFirstBytes || len(rest) > maxRestBytes:
		return nil, fmt.Errorf("key %.100q, %.100q: %d and %d bytes, at most %d and %d are allowed",
			first, rest, len(first), len(rest), maxFirstBytes, maxRestBytes)
	}
	return append(append(append(make([]byte, 0, len(first)+1+len(rest)), first...), 0), rest...), nil
}

// splitKey returns the parts of a key.
func splitKey(key []byte) (first, rest string) {
	a, b, _ := bytes.Cut(key, []byte{0})
	return string(a), string(b)
}

// number is an integer as part of an index key: the bytes sort as it does.
func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)^1<<63) }

func toNumber(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

// item is what a table holds under a key.
type item struct {
	expiresAt int64 // Unix seconds; 0 means never
	doc       []byte
}

// size is what DynamoDB would count of the item, about.
func (i item) size(key []byte) int { return len(key) + len(i.doc) + itemOverhead }

// gone reports whether the item has expired at now, Unix milliseconds.
func (i item) gone(now int64) bool { return i.expiresAt > 0 && i.expiresAt <= now/1000 }

// toItem reads a bucket's value. The doc is good for as long as the value is.
func toItem(value []byte) (item, error) {
	at, n := binary.Varint(value)
	if n <= 0 {
		return item{}, errCut
	}
	return item{at, value[n:]}, nil
}

// stored returns what the table holds under the key, expired or not, and false
// when it holds nothing. The doc is good for the transaction.
func (t table) stored(tx *bbolt.Tx, key []byte) (item, bool, error) {
	v := tx.Bucket(t.name).Get(key)
	if v == nil {
		return item{}, false, nil
	}
	i, err := toItem(v)
	return i, err == nil, err
}

// live is stored without what has expired at now.
func (t table) live(tx *bbolt.Tx, key []byte, now int64) (doc []byte, ok bool, err error) {
	i, ok, err := t.stored(tx, key)
	if err != nil || !ok || i.gone(now) {
		return nil, false, err
	}
	return i.doc, true, nil
}

// put stores an item in place of whatever is there.
func (t table) put(tx *bbolt.Tx, key []byte, i item) error {
	if n := i.size(key); n > maxItemBytes {
		return fmt.Errorf("item of %d bytes, at most %d are allowed", n, maxItemBytes)
	}
	b := tx.Bucket(t.name)
	if err := t.moveExpiry(tx, key, b.Get(key), i.expiresAt); err != nil {
		return err
	}
	return b.Put(key, append(binary.AppendVarint(make([]byte, 0, binary.MaxVarintLen64+len(i.doc)), i.expiresAt), i.doc...))
}

// remove removes what is there, if anything.
func (t table) remove(tx *bbolt.Tx, key []byte) error {
	b := tx.Bucket(t.name)
	if err := t.moveExpiry(tx, key, b.Get(key), 0); err != nil {
		return err
	}
	return b.Delete(key)
}

// moveExpiry makes the expiry index say that the item, whose value was old,
// expires at to.
func (t table) moveExpiry(tx *bbolt.Tx, key, old []byte, to int64) error {
	var from int64
	if old != nil {
		was, err := toItem(old)
		if err != nil {
			return err
		}
		from = was.expiresAt
	}
	if from == to {
		return nil
	}
	index := tx.Bucket(expiries)
	if from != 0 {
		if err := index.Delete(t.expiryKey(key, from)); err != nil {
			return err
		}
	}
	if to != 0 {
		return index.Put(t.expiryKey(key, to), nil)
	}
	return nil
}

func (t table) expiryKey(key []byte, at int64) []byte {
	return append(append(number(at), t.mark), key...)
}

// prefixed returns the items whose keys have the first part, in the order of
// the second. The doc is good until the next one.
func (t table) prefixed(tx *bbolt.Tx, first string, each func(rest string, i item) error) error {
	prefix := append([]byte(first), 0)
	c := tx.Bucket(t.name).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		i, err := toItem(v)
		if err != nil {
			return err
		}
		if err := each(string(k[len(prefix):]), i); err != nil {
			return err
		}
	}
	return nil
}

// page hands on the items of a list, in the order of their keys, until limit of
// them were taken or a page is full, and reports whether there may be more. The
// list is of the second parts that begin with prefix and come after `after`, of
// keys whose first part is first; what has expired at now is not in it.
func (s *Store) page(tx *bbolt.Tx, t table, first, prefix, after string, limit int, now int64, take func(rest string, i item) (taken bool, err error)) (more bool, err error) {
	all := append([]byte(first), 0)
	want := append(bytes.Clone(all), prefix...)
	from := want
	if past := append(append(bytes.Clone(all), after...), 0); after != "" && bytes.Compare(past, from) > 0 {
		from = past // the least key that is greater
	}
	n, read := 0, 0
	c := tx.Bucket(t.name).Cursor()
	for k, v := c.Seek(from); bytes.HasPrefix(k, want); k, v = c.Next() {
		if n == limit || read > s.o.PageBytes && n > 0 {
			return true, nil
		}
		read += len(k) + len(v)
		i, err := toItem(v)
		if err != nil {
			return false, err
		}
		if i.gone(now) {
			continue
		}
		taken, err := take(string(k[len(all):]), i)
		if err != nil {
			return false, err
		}
		if taken {
			n++
		}
	}
	return false, nil
}
