package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"eventhooks/internal/hook"
)

// Run holds a store against its promise. open is called once for each of the
// groups below and may return a store on tables that already hold things, as
// long as nobody else writes to them meanwhile: whatever Run writes is under
// ids of its own.
//
// Everything happens at times around the present, so that a table which
// removes expired items on its own finds none of Run's to remove.
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Helper()
	RunRecords(t, open)
	run(t, open, []group{
		{"delivery rows", testDeliveries},
		{"conditions of delivery rows", testConditions},
		{"suggestions about delivery rows", testSuggestions},
		{"slots and windows", testSuppression},
		{"open windows", testOpenSnoozes},
		{"breakers", testBreakers},
		{"waiting rows", testWaiting},
		{"probes", testProbes},
		{"health orders", testOrders},
		{"watches", testWatches},
		{"idempotent posts", testIngest},
		{"uses of tokens", testTokenUses},
	})
}

// RunRecords is the part of Run that is about configuration.
func RunRecords(t *testing.T, open func(t *testing.T) Store) {
	t.Helper()
	run(t, open, []group{
		{"epochs and records", testRecords},
		{"writes of several records", testWrites},
		{"lists and changes", testLists},
	})
}

type group struct {
	name string
	run  func(t *testing.T, s *suite)
}

func run(t *testing.T, open func(t *testing.T) Store, groups []group) {
	t.Helper()
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			g.run(t, &suite{Store: open(t), now: time.Now().UnixMilli()})
		})
	}
}

// suite is the store under test and the present, Unix milliseconds.
type suite struct {
	Store
	now int64
}

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// workers bounds concurrency: the AWS-compatible servers that the suite also
// runs on are slow and do one thing at a time.
const workers = 8

// maxItem is the size above which DynamoDB refuses an item.
const maxItem = 400 << 10

// newID returns an id that nothing else has, shaped like a hook's.
func newID() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(a), uint16(a>>32), a>>52, b&0xfff, b>>16)
}

var events atomic.Int64

// newEventID returns an id that nothing else has, shaped like an event's, above
// all that it returned before.
func newEventID() string {
	ms := uint64(time.Now().UnixMilli()-hour) + uint64(events.Add(1))*1000
	a := rand.Uint64()
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", uint32(ms>>16), uint16(ms), a&0xfff, a>>12&0xfff, a>>16)
}

// noise returns n bytes that no compression makes smaller.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// everyByte holds each byte once.
func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// longText is longer than any key, and ends in the midst of a character where
// one would cut it.
var longText = strings.Repeat("é", 2000)

// words are texts that have been mangled by somebody's table, encoder or sort.
var words = []string{
	"plain", "ünïcödé", "日本語", "😀", "\uFFFD", "\uFFFE", "a\u0000b", "line\nbreak\ttab", `quote " backslash \`,
	"<&>'", "\u2028", "e\u0301", " spaces ", "100%", "#/:?", "{\"json\": [1]}", "null", "1e999",
}

// fill sets everything below v to a value of its own: no field zero, no two
// alike, integers that a float64 would change, texts that are hard to carry.
// A field that hook gains tomorrow is filled too.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("%d %s", *n, words[*n%int64(len(words))]))
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<53 + 2*(*n) + 1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(append(everyByte(), byte(*n)))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n)
			fill(val, n)
			v.SetMapIndex(key, val)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 21, 18, 0, 0, 123_456_789+int(*n), time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic(fmt.Sprintf("fill cannot fill a %s: teach it", v.Type()))
	}
}

// filled returns a T whose every field is set.
func filled[T any]() T {
	var v T
	var n int64
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// equal fails the test unless got and want are the same; nil and empty slices
// and maps are.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func diff(want, got any) string {
	// Byte for byte, cmp would take a second for a megabyte that is equal, and
	// minutes for one that is not.
	large := cmp.FilterValues(func(a, b []byte) bool { return len(a) > 1000 || len(b) > 1000 }, cmp.Transformer("digest", digest))
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), large)
}

func digest(b []byte) string { return fmt.Sprintf("%d bytes, SHA-256 %x", len(b), sha256.Sum256(b)) }

// ok ends the test unless err is nil.
func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// is fails the test unless err is target.
func is(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s = %v; want %v", what, err, target)
	}
}

// conflict fails the test unless err is a *hook.Conflict about that change and
// that row, around target.
func conflict(t *testing.T, what string, err, target error, change, row int) {
	t.Helper()
	is(t, what, err, target)
	c, found := errors.AsType[*hook.Conflict](err)
	if !found {
		t.Errorf("%s = %v (%T); want a *hook.Conflict", what, err, err)
		return
	}
	if c.Change != change || c.Row != row {
		t.Errorf("%s = Conflict{Change: %d, Row: %d}; want Change %d, Row %d", what, c.Change, c.Row, change, row)
	}
}

// eventually asks until ask has nothing to complain about. It is for reads that
// only suggest: DynamoDB's indexes lag behind their table, mostly by
// milliseconds, and nothing tells when they have caught up, so all that can be
// done is to ask again, for a bounded time.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for i := range 60 {
		if err = ask(); err == nil {
			return
		}
		time.Sleep(time.Duration(min(i, 10)*20) * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err) // others like it would wait as long
}

// patiently repeats what answered hook.ErrBusy, as a caller would.
func patiently(do func() error) error {
	var err error
	for range 100 {
		if err = do(); !errors.Is(err, hook.ErrBusy) {
			return err
		}
	}
	return err
}

// race runs do in all workers at the same time and returns what each answered.
func race[T any](do func(worker int) T) []T {
	var (
		start = make(chan struct{})
		wg    sync.WaitGroup
		out   = make([]T, workers)
	)
	for i := range workers {
		wg.Go(func() {
			<-start
			out[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	return out
}

// oneWins fails the test unless exactly one worker has no error and all others
// have lost, and returns the winner.
func oneWins(t *testing.T, what string, errs []error, lost error) int {
	t.Helper()
	winner, winners := -1, 0
	for i, err := range errs {
		switch {
		case err == nil:
			winner = i
			winners++
		case !errors.Is(err, lost):
			t.Errorf("%s, worker %d: %v; want nil or %v", what, i, err, lost)
		}
	}
	if winners != 1 {
		t.Fatalf("%s: %d winners; want 1", what, winners)
	}
	return winner
}

// errLost stands for a false among the answers of a race.
var errLost = errors.New("lost")

func won(yes bool, err error) error {
	if err == nil && !yes {
		return errLost
	}
	return err
}

// newRow returns a pending row of the hook for a new event, as a first failure
// leaves it.
func (s *suite) newRow(hookID string) hook.Delivery {
	return hook.Delivery{
		HookID: hookID,
		Event: hook.Event{
			ID: newEventID(), Source: "balancer", Event: "health", Time: time.UnixMilli(s.now).UTC(),
			Data: []byte(`{"upstream_id":"u1","health":"unhealthy"}`),
		},
		Gen: 7, Status: hook.Pending, Run: 1, Attempt: 1, Seq: 1,
		CreatedMS: s.now, DeadlineMS: s.now + 5*day, DueMS: s.now + 5*second, WakeMS: s.now + 5*second + 2*minute,
		Attempts: []hook.Attempt{{AtMS: s.now, TookMS: 12, Code: 500, Error: "status 500", IP: "192.0.2.7"}},
	}
}

// fullRow returns a row of the hook in which every field is set that the status
// allows.
func (s *suite) fullRow(hookID string, status hook.Status) hook.Delivery {
	d := filled[hook.Delivery]()
	d.HookID, d.Event.ID, d.Status, d.Run = hookID, newEventID(), status, 3
	if status == hook.Pending {
		d.ExpiresAt = 0
	} else {
		d.ExpiresAt = (s.now + 7*day) / 1000
		d.DueMS, d.WakeMS, d.LeaseMS = 0, 0, 0
	}
	return d
}

// ended returns the row as it is when it has ended, forgotten a week later.
func (s *suite) ended(d hook.Delivery, status hook.Status) hook.Delivery {
	d.Status, d.DueMS, d.WakeMS, d.LeaseMS = status, 0, 0, 0
	d.ExpiresAt = (s.now + 7*day) / 1000
	if status == hook.Failed {
		d.Reason = hook.ReasonExhausted
	}
	return d
}

// create stores a row that must not be there yet.
func (s *suite) create(t *testing.T, d hook.Delivery) {
	t.Helper()
	created, err := s.CreateDelivery(t.Context(), d, s.now)
	ok(t, "CreateDelivery", err)
	if !created {
		t.Fatalf("CreateDelivery(%s) = false; want true", d.Key())
	}
}

// holds fails the test unless the store holds exactly that row.
func (s *suite) holds(t *testing.T, what string, want hook.Delivery) {
	t.Helper()
	got, err := s.Delivery(t.Context(), want.Key(), s.now)
	ok(t, what+": Delivery", err)
	equal(t, what, got, want)
}

// holdsNone fails the test if the store holds a row under the key.
func (s *suite) holdsNone(t *testing.T, what string, key hook.DeliveryKey) {
	t.Helper()
	if d, err := s.Delivery(t.Context(), key, s.now); !errors.Is(err, hook.ErrNotFound) {
		t.Errorf("%s: Delivery = %+v, %v; want ErrNotFound", what, d, err)
	}
}

// write is Write at the present; it must succeed.
func (s *suite) write(t *testing.T, feed hook.Feed, changes ...hook.Change) int64 {
	t.Helper()
	var epoch int64
	err := patiently(func() (err error) {
		epoch, err = s.Write(t.Context(), feed, changes, nil, s.now)
		return err
	})
	ok(t, "Write", err)
	return epoch
}

// put is a change that stores data under a new or old id, whatever is there.
func put(kind, id, data string) hook.Change {
	return hook.Change{Record: hook.Record{Kind: kind, ID: id, Data: []byte(data)}, Expect: hook.ExpectAny}
}

// remove is a change that deletes, whatever is there.
func remove(kind, id string) hook.Change {
	return hook.Change{Record: hook.Record{Kind: kind, ID: id, Deleted: true}, Expect: hook.ExpectAny}
}

// epoch is Epoch; it must succeed.
func (s *suite) epoch(t *testing.T, feed hook.Feed) int64 {
	t.Helper()
	n, err := s.Epoch(t.Context(), feed)
	ok(t, "Epoch", err)
	return n
}

// absent fails the test unless Get of the record is ErrNotFound.
func (s *suite) absent(t *testing.T, what, kind, id string, now int64) {
	t.Helper()
	if r, err := s.Get(t.Context(), kind, id, now); !errors.Is(err, hook.ErrNotFound) {
		t.Errorf("%s: Get(%s, %q) = %+v, %v; want ErrNotFound", what, kind, id, r, err)
	}
}

// refused fails the test unless a page with that limit was an error.
func refused(t *testing.T, what string, limit, rows int, more bool, err error) {
	t.Helper()
	if err == nil || rows > 0 || more {
		t.Errorf("%s with limit %d = %d rows, more %v, %v; want an error and nothing else", what, limit, rows, more, err)
	}
}

// list reads all pages of a list with the given limit.
func (s *suite) list(t *testing.T, kind, prefix, after string, limit int, now int64) []hook.Record {
	t.Helper()
	var all []hook.Record
	for {
		page, more, err := s.List(t.Context(), kind, prefix, after, limit, now)
		ok(t, "List", err)
		if len(page) > limit {
			t.Fatalf("List returned %d records; want at most %d", len(page), limit)
		}
		for _, r := range page {
			if r.ID <= after {
				t.Fatalf("List after %q returned %q; want rising ids", after, r.ID)
			}
			after = r.ID
		}
		all = append(all, page...)
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatalf("List(%s, %q, after %q) returned an empty page and says that there is more", kind, prefix, after)
		}
	}
}

// rows reads all pages of a hook's rows with the given limit.
func (s *suite) rows(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) ([]hook.Delivery, error) {
	var all []hook.Delivery
	for {
		page, more, err := s.ListDeliveries(ctx, hookID, status, before, limit, now)
		if err != nil {
			return nil, err
		}
		if len(page) > limit {
			return nil, fmt.Errorf("ListDeliveries returned %d rows; want at most %d", len(page), limit)
		}
		for _, d := range page {
			if before != "" && d.Event.ID >= before {
				return nil, fmt.Errorf("ListDeliveries before %q returned %q; want falling ids", before, d.Event.ID)
			}
			before = d.Event.ID
		}
		all = append(all, page...)
		if !more {
			return all, nil
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("ListDeliveries(before %q) returned an empty page and says that there is more", before)
		}
	}
}

func ids(records []hook.Record) []string {
	out := []string{}
	for _, r := range records {
		out = append(out, r.ID)
	}
	return out
}

func eventIDs(rows []hook.Delivery) []string {
	out := []string{}
	for _, d := range rows {
		out = append(out, d.Event.ID)
	}
	return out
}
