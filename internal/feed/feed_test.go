package feed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
)

var bothKinds = []string{hook.KindHook, hook.KindSource}

// table is a store whose transactions show item by item.
type table struct {
	mu    sync.Mutex
	epoch int64                  // as readers see it
	next  int64                  // of the last transaction begun
	rows  map[string]hook.Record // by kind and id
	page  int                    // records of a page, at most; 0: as asked
	reads []string
	fail  func(read string) error // nil: nothing fails
}

func newTable() *table { return &table{rows: map[string]hook.Record{}} }

// begin starts a transaction of which nothing shows yet. The returned records
// are shown one by one with show, the epoch with showEpoch.
func (s *table) begin(rs ...hook.Record) []hook.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	rs = slices.Clone(rs)
	for i := range rs {
		rs[i].Changed = s.next
	}
	return rs
}

func (s *table) showEpoch(r hook.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = max(s.epoch, r.Changed)
}

func (s *table) show(rs ...hook.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		if k := r.Kind + "/" + r.ID; r.Changed > s.rows[k].Changed {
			s.rows[k] = r
		}
	}
}

// write is a transaction from beginning to end.
func (s *table) write(rs ...hook.Record) {
	rs = s.begin(rs...)
	s.showEpoch(rs[0])
	s.show(rs...)
}

// read notes a read, and fails it if the test wants that.
func (s *table) read(format string, args ...any) error {
	r := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.reads = append(s.reads, r)
	fail := s.fail
	s.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(r)
}

// took returns the reads since it was called last.
func (s *table) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	rs := s.reads
	s.reads = nil
	return rs
}

func (s *table) Epoch(_ context.Context, f hook.Feed) (int64, error) {
	if err := s.read("epoch %s", f); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, nil
}

func (s *table) List(_ context.Context, kind, prefix, after string, limit int, _ int64) ([]hook.Record, bool, error) {
	if err := s.read("list %s after %q", kind, prefix+after); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.page > 0 {
		limit = min(limit, s.page)
	}
	var page []hook.Record
	for _, k := range slices.Sorted(maps.Keys(s.rows)) {
		if r := s.rows[k]; r.Kind == kind && r.ID > after && !r.Deleted {
			if len(page) == limit {
				return page, true, nil
			}
			page = append(page, r)
		}
	}
	return page, false, nil
}

func (s *table) Changes(_ context.Context, kind string, since int64) ([]hook.Record, error) {
	if err := s.read("changes %s > %d", kind, since); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var rs []hook.Record
	for _, r := range s.rows {
		if r.Kind == kind && r.Changed > since {
			rs = append(rs, r)
		}
	}
	slices.SortFunc(rs, func(a, b hook.Record) int { return int(a.Changed - b.Changed) })
	return rs, nil
}

// shelf is a sink.
type shelf struct {
	mu     sync.Mutex
	has    map[string]string // data by kind/id
	log    []string          // what was done to it
	refuse func(hook.Record) error
}

func newShelf() *shelf { return &shelf{has: map[string]string{}} }

func (s *shelf) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has, s.log = map[string]string{}, append(s.log, "reset")
}

func (s *shelf) Apply(r hook.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(r); err != nil {
			return err
		}
	}
	k := r.Kind + "/" + r.ID
	if r.Deleted {
		s.log = append(s.log, "-"+k)
		delete(s.has, k)
		return nil
	}
	s.log = append(s.log, "+"+k+"="+string(r.Data))
	s.has[k] = string(r.Data)
	return nil
}

// did returns what was done to the sink since it was called last.
func (s *shelf) did() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log
	s.log = nil
	return l
}

func (s *shelf) holds() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.has)
}

func aHook(id, data string) hook.Record {
	return hook.Record{Kind: hook.KindHook, ID: id, Data: []byte(data)}
}

func aSource(id, data string) hook.Record {
	return hook.Record{Kind: hook.KindSource, ID: id, Data: []byte(data)}
}

func gone(kind, id string) hook.Record { return hook.Record{Kind: kind, ID: id, Deleted: true} }

// world is a feed on a table, with a clock of its own.
type world struct {
	t     *testing.T
	table *table
	shelf *shelf
	feed  *feed.Feed
	at    time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, table: newTable(), shelf: newShelf(), at: time.Unix(1_800_000_000, 0)}
	w.feed = feed.New(w.table, hook.FeedHooks, bothKinds, w.shelf, func() time.Time { return w.at })
	return w
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.feed.Refresh(context.Background()); err != nil {
		w.t.Fatalf("Refresh() = %v; want nil", err)
	}
}

// settle lets time pass until nothing is open any more.
func (w *world) settle() {
	w.t.Helper()
	w.refresh()
	w.at = w.at.Add(10 * time.Second)
	w.refresh()
	w.table.took()
	w.shelf.did()
}

func (w *world) reads(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.table.took()); diff != "" {
		w.t.Errorf("reads (-want +got):\n%s", diff)
	}
}

func (w *world) did(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.shelf.did()); diff != "" {
		w.t.Errorf("done to the sink (-want +got):\n%s", diff)
	}
}

func (w *world) holds(want map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.shelf.holds()); diff != "" {
		w.t.Errorf("the sink holds (-want +got):\n%s", diff)
	}
}

func TestFeed_Refresh(t *testing.T) {
	t.Run("the first load reads the epoch, then all pages of each kind", func(t *testing.T) {
		w := newWorld(t)
		w.table.page = 2
		w.table.write(aHook("a", "1"), aHook("b", "2"), aHook("c", "3"), aHook("d", "4"), aHook("e", "5"))
		w.table.write(aSource("s/t", "6"))
		w.refresh()
		w.reads("epoch hooks", `list hook after ""`, `list hook after "b"`, `list hook after "d"`, `list source after ""`)
		w.did("reset", "+hook/a=1", "+hook/b=2", "+hook/c=3", "+hook/d=4", "+hook/e=5", "+source/s/t=6")
	})

	t.Run("an empty table needs one read from then on", func(t *testing.T) {
		w := newWorld(t)
		w.refresh()
		w.did("reset")
		w.table.took()
		w.refresh()
		w.reads("epoch hooks")
	})

	t.Run("nothing moved for 10 s: exactly one read", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		for range 3 {
			w.refresh()
		}
		w.reads("epoch hooks", "epoch hooks", "epoch hooks")
		w.did()
	})

	t.Run("a write that ended is seen by the next call", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		w.table.write(aHook("b", "2"))
		w.refresh()
		w.reads("epoch hooks", "changes hook > 1", "changes source > 1")
		w.did("+hook/b=2")
	})

	t.Run("a deletion removes", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"), aHook("b", "2"))
		w.settle()
		w.table.write(gone(hook.KindHook, "a"))
		w.refresh()
		w.did("-hook/a")
		w.holds(map[string]string{"hook/b": "2"})
	})

	t.Run("changes come in the order they were made, across kinds", func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		w.table.write(aSource("z", "1"))
		w.table.write(aHook("y", "2"))
		w.table.write(aSource("x", "3"))
		w.table.write(aHook("w", "4"))
		w.refresh()
		w.did("+source/z=1", "+hook/y=2", "+source/x=3", "+hook/w=4")
	})

	t.Run("queries go on for 10 s after a move, and apply nothing twice", func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		w.table.write(aHook("a", "1"))
		w.refresh()
		w.at = w.at.Add(9999 * time.Millisecond)
		w.refresh()
		w.at = w.at.Add(time.Millisecond)
		w.refresh()
		w.at = w.at.Add(time.Millisecond)
		w.refresh()
		w.reads(
			"epoch hooks", "changes hook > 0", "changes source > 0",
			"epoch hooks", "changes hook > 0", "changes source > 0",
			"epoch hooks", "changes hook > 0", "changes source > 0",
			"epoch hooks",
		)
		w.did("+hook/a=1")
	})

	t.Run("a record that shows after its epoch is found", func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		rs := w.table.begin(aHook("a", "1"), aSource("s", "2"))
		w.table.showEpoch(rs[0])
		w.refresh()
		w.did()
		w.table.show(rs[1])
		w.at = w.at.Add(4 * time.Second)
		w.refresh()
		w.did("+source/s=2")
		w.table.show(rs[0])
		w.at = w.at.Add(5 * time.Second)
		w.refresh()
		w.did("+hook/a=1")
	})

	t.Run("a record that shows before its epoch is applied once", func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		w.table.write(aHook("a", "1"))
		rs := w.table.begin(aHook("b", "2"))
		w.table.show(rs...)
		w.refresh()
		w.did("+hook/a=1", "+hook/b=2")
		w.table.showEpoch(rs[0])
		w.refresh()
		w.did()
	})

	t.Run("a record that shows after the first load is found", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		rs := w.table.begin(aHook("b", "2"))
		w.table.showEpoch(rs[0])
		w.table.write(aHook("c", "3"))
		w.refresh()
		w.did("reset", "+hook/a=1", "+hook/c=3")
		w.table.show(rs...)
		w.at = w.at.Add(time.Second)
		w.refresh()
		w.did("+hook/b=2")
	})

	t.Run("a first load on a long history looks back a little, not at everything", func(t *testing.T) {
		w := newWorld(t)
		for i := range 500 {
			w.table.write(aHook("a", fmt.Sprint(i)))
		}
		w.refresh()
		w.table.took()
		w.refresh()
		w.reads("epoch hooks", "changes hook > 400", "changes source > 400")
		w.at = w.at.Add(10 * time.Second)
		w.refresh()
		w.table.took()
		w.refresh()
		w.reads("epoch hooks")
	})

	t.Run("the cursor follows a stream of edits that never pauses", func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		for i := range 20 {
			w.table.write(aHook("a", fmt.Sprint(i)))
			w.refresh()
			w.at = w.at.Add(4 * time.Second)
		}
		w.table.took()
		w.refresh()
		// 20 epochs, the last three of them seen less than 10 s before the
		// query that came last.
		w.reads("epoch hooks", "changes hook > 17", "changes source > 17")
	})

	t.Run("a restored table is loaded afresh", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.table.write(aHook("b", "2"))
		w.settle()
		w.table.epoch, w.table.next = 1, 1
		delete(w.table.rows, "hook/b")
		w.refresh()
		w.reads("epoch hooks", `list hook after ""`, `list source after ""`)
		w.did("reset", "+hook/a=1")
		w.table.write(aHook("c", "3")) // epoch 2 once more, but another 2
		w.refresh()
		w.holds(map[string]string{"hook/a": "1", "hook/c": "3"})
	})

	t.Run("a table restored while a move settles is loaded afresh", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		w.table.write(aHook("b", "2"))
		w.refresh()
		w.table.epoch, w.table.next = 1, 1
		delete(w.table.rows, "hook/b")
		w.refresh()
		w.holds(map[string]string{"hook/a": "1"})
	})

	t.Run("changes after a day without a look are loaded afresh", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"), aHook("b", "2"))
		w.settle()
		w.table.write(gone(hook.KindHook, "a"))
		delete(w.table.rows, "hook/a") // its tombstone expires
		w.at = w.at.Add(24 * time.Hour)
		w.refresh()
		w.reads("epoch hooks", `list hook after ""`, `list source after ""`)
		w.holds(map[string]string{"hook/b": "2"})
	})

	t.Run("a move that had not settled a day ago is loaded afresh", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		rs := w.table.begin(gone(hook.KindHook, "a"))
		w.table.showEpoch(rs[0])
		w.refresh()
		delete(w.table.rows, "hook/a") // it showed, and expired
		w.at = w.at.Add(24 * time.Hour)
		w.refresh()
		w.holds(map[string]string{})
	})

	t.Run("nothing changed for a day: still one read", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		w.at = w.at.Add(48 * time.Hour)
		w.refresh()
		w.reads("epoch hooks")
		w.did()
	})
}

// vault is a sink that wants to be locked, and says when it is.
type vault struct {
	*shelf
	locked bool
}

func (v *vault) Lock()   { v.locked = true; v.note("locked") }
func (v *vault) Unlock() { v.locked = false; v.note("unlocked") }

func (v *vault) note(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log = append(v.log, what)
}

func TestFeed_Refresh_locker(t *testing.T) {
	w := newWorld(t)
	v := &vault{shelf: w.shelf}
	w.feed = feed.New(w.table, hook.FeedHooks, bothKinds, v, func() time.Time { return w.at })
	w.table.fail = func(read string) error {
		if v.locked {
			t.Errorf("%s while the sink is locked", read)
		}
		return nil
	}
	w.table.write(aHook("a", "1"), aHook("b", "2"))
	w.refresh()
	w.did("locked", "reset", "+hook/a=1", "+hook/b=2", "unlocked")
	w.table.write(aHook("a", "3"))
	w.table.write(aSource("s", "4"))
	w.refresh()
	w.did("locked", "+hook/a=3", "+source/s=4", "unlocked")

	w.shelf.refuse = func(hook.Record) error { return errors.New("cannot be read") }
	w.table.write(aHook("c", "5"))
	if err := w.feed.Refresh(t.Context()); err == nil {
		t.Error("Refresh() = nil; want an error")
	}
	w.did("locked", "unlocked")
}

func TestFeed_Refresh_failures(t *testing.T) {
	down := errors.New("the store is down")
	failing := func(w *world, prefix string) {
		w.table.fail = func(read string) error {
			if strings.HasPrefix(read, prefix) {
				return down
			}
			return nil
		}
	}
	expect := func(w *world, want error) {
		w.t.Helper()
		if err := w.feed.Refresh(context.Background()); !errors.Is(err, want) {
			w.t.Fatalf("Refresh() = %v; want %v", err, want)
		}
	}

	for _, read := range []string{"epoch", "list hook", `list hook after "b"`, "list source"} {
		t.Run("a load that fails at "+read+" touches nothing and is made again", func(t *testing.T) {
			w := newWorld(t)
			w.table.page = 2
			w.table.write(aHook("a", "1"), aHook("b", "2"), aHook("c", "3"), aSource("s", "4"))
			failing(w, read)
			expect(w, down)
			w.did()
			w.table.fail = nil
			w.refresh()
			w.did("reset", "+hook/a=1", "+hook/b=2", "+hook/c=3", "+source/s=4")
		})
	}

	for _, read := range []string{"epoch", "changes hook", "changes source"} {
		t.Run("changes that fail at "+read+" touch nothing and come again", func(t *testing.T) {
			w := newWorld(t)
			w.table.write(aHook("a", "1"))
			w.settle()
			w.table.write(aHook("b", "2"))
			w.table.write(aSource("s", "3"))
			failing(w, read)
			for range 3 { // however long it lasts
				expect(w, down)
				w.at = w.at.Add(20 * time.Second)
			}
			w.did()
			w.table.fail = nil
			w.refresh()
			w.did("+hook/b=2", "+source/s=3")
		})
	}

	t.Run("a reload that fails leaves the sink as it was", func(t *testing.T) {
		w := newWorld(t)
		w.table.write(aHook("a", "1"))
		w.settle()
		w.table.epoch = 0
		failing(w, "list source")
		expect(w, down)
		w.did()
		w.holds(map[string]string{"hook/a": "1"})
	})

	t.Run("a record that the sink refuses fails the call, and comes again alone", func(t *testing.T) {
		refused := errors.New("cannot be read")
		w := newWorld(t)
		w.settle()
		w.table.write(aHook("a", "1"))
		w.table.write(aHook("b", "2"))
		w.table.write(aHook("c", "3"))
		w.shelf.refuse = func(r hook.Record) error {
			if r.ID == "b" {
				return refused
			}
			return nil
		}
		expect(w, refused)
		w.did("+hook/a=1", "+hook/c=3")
		w.at = w.at.Add(time.Minute)
		expect(w, refused)
		w.did()
		w.shelf.refuse = nil
		w.refresh()
		w.did("+hook/b=2")
	})

	t.Run("a load with a record that the sink refuses fails, and is made again", func(t *testing.T) {
		refused := errors.New("cannot be read")
		w := newWorld(t)
		w.table.write(aHook("a", "1"), aHook("b", "2"))
		w.shelf.refuse = func(r hook.Record) error {
			if r.ID == "a" {
				return refused
			}
			return nil
		}
		expect(w, refused)
		w.holds(map[string]string{"hook/b": "2"})
		w.shelf.refuse = nil
		w.refresh()
		w.holds(map[string]string{"hook/a": "1", "hook/b": "2"})
	})
}

// gate makes reads of the epoch wait until they are let through.
type gate struct {
	*table
	enter chan struct{} // one value for each read of the epoch that has begun
	leave chan error    // one value lets one through
}

func (g *gate) Epoch(ctx context.Context, f hook.Feed) (int64, error) {
	g.enter <- struct{}{}
	select {
	case err := <-g.leave:
		if err != nil {
			return 0, err
		}
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return g.table.Epoch(ctx, f)
}

func TestFeed_Refresh_concurrent(t *testing.T) {
	type call struct {
		cancel context.CancelFunc
		done   chan error
	}
	start := func(f *feed.Feed) call {
		ctx, cancel := context.WithCancel(context.Background())
		c := call{cancel, make(chan error, 1)}
		go func() { c.done <- f.Refresh(ctx) }()
		synctest.Wait() // it has come as far as it can
		return c
	}
	setUp := func(t *testing.T) (*gate, *shelf, *feed.Feed) {
		g := &gate{newTable(), make(chan struct{}, 100), make(chan error)}
		s := newShelf()
		return g, s, feed.New(g, hook.FeedHooks, bothKinds, s, nil)
	}
	ended := func(t *testing.T, c call, want error) {
		t.Helper()
		synctest.Wait()
		select {
		case err := <-c.done:
			if !errors.Is(err, want) {
				t.Errorf("Refresh() = %v; want %v", err, want)
			}
		default:
			t.Error("Refresh has not returned")
		}
	}
	waits := func(t *testing.T, c call) {
		t.Helper()
		synctest.Wait()
		select {
		case err := <-c.done:
			t.Errorf("Refresh() = %v; want it to wait", err)
		default:
		}
	}

	in := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	in("waiting calls share one refresh that began after they were made", func(t *testing.T) {
		g, s, f := setUp(t)
		first := start(f)
		g.write(aHook("a", "1")) // the first may or may not see it; the others must
		second, third := start(f), start(f)
		if n := len(g.enter); n != 1 {
			t.Fatalf("%d reads of the epoch at once; want 1", n)
		}
		g.leave <- nil
		ended(t, first, nil)
		waits(t, second)
		waits(t, third)
		g.leave <- nil
		ended(t, second, nil)
		ended(t, third, nil)
		if n := len(g.enter); n != 2 {
			t.Errorf("%d reads of the epoch for three calls; want 2", n)
		}
		if diff := cmp.Diff(map[string]string{"hook/a": "1"}, s.holds()); diff != "" {
			t.Errorf("the sink holds (-want +got):\n%s", diff)
		}
	})

	in("a call does not share a refresh that was on when it was made", func(t *testing.T) {
		g, s, f := setUp(t)
		first := start(f)
		g.leave <- nil
		ended(t, first, nil)
		<-g.enter
		second := start(f) // stands before its read of the epoch
		g.write(aHook("a", "1"))
		third := start(f)
		g.leave <- errors.New("down")
		synctest.Wait()
		<-second.done
		waits(t, third)
		g.leave <- nil
		ended(t, third, nil)
		if got := s.holds()["hook/a"]; got != "1" {
			t.Errorf("the sink holds %q for hook/a; want 1", got)
		}
	})

	in("calls that wait share a failure, so that an outage is not waited for in turn", func(t *testing.T) {
		g, _, f := setUp(t)
		down := errors.New("the store is down")
		first := start(f)
		second, third := start(f), start(f)
		g.leave <- nil
		ended(t, first, nil)
		g.leave <- down
		ended(t, second, down)
		ended(t, third, down)
	})

	in("a call that gives up does not fail those who wait behind it", func(t *testing.T) {
		g, _, f := setUp(t)
		first := start(f)
		second, third, fourth := start(f), start(f), start(f)
		second.cancel() // while it waits for its turn
		ended(t, second, context.Canceled)
		first.cancel() // while it reads
		ended(t, first, context.Canceled)
		waits(t, third)
		waits(t, fourth)
		g.leave <- nil
		ended(t, third, nil)
		ended(t, fourth, nil)
	})

	in("a call that is over before it began reads nothing", func(t *testing.T) {
		g, _, f := setUp(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := f.Refresh(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Refresh() = %v; want %v", err, context.Canceled)
		}
		if len(g.enter) != 0 {
			t.Error("it read the epoch")
		}
	})

	in("many at once see what was written before them", func(t *testing.T) {
		tab, s := newTable(), newShelf()
		f := feed.New(tab, hook.FeedHooks, bothKinds, s, nil)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 20 {
					id := fmt.Sprintf("%d-%d", i, j)
					tab.mu.Lock() // a transaction that shows at once
					tab.next++
					tab.epoch = tab.next
					tab.rows["hook/"+id] = hook.Record{Kind: hook.KindHook, ID: id, Changed: tab.next, Data: []byte("x")}
					tab.mu.Unlock()
					if err := f.Refresh(context.Background()); err != nil {
						t.Errorf("Refresh() = %v; want nil", err)
					}
					if s.holds()["hook/"+id] == "" {
						t.Errorf("hook %s was written before the call, and is not there after it", id)
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestFeed_Refresh_anyOrder lets transactions show in any order and at any
// speed up to 9 s, reads fail, time pass and the table be restored, and holds
// the one promise: after Refresh, the sink has what was written before it.
func TestFeed_Refresh_anyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			table: newTable(), shelf: newShelf(), at: time.Unix(1_800_000_000, 0),
			began: map[string][]hook.Record{}, ended: map[string]hook.Record{},
		}
		m.feed = feed.New(m.table, hook.FeedHooks, bothKinds, m.shelf, func() time.Time { return m.at })
		t.Repeat(map[string]func(*rapid.T){
			"begin": m.begin, "show": m.show, "pass": m.pass, "sleep": m.sleep,
			"refresh": m.refresh, "save": m.save, "restore": m.restore,
		})
	})
}

type model struct {
	table *table
	shelf *shelf
	feed  *feed.Feed
	at    time.Time

	n       int // numbers data
	pending []transaction
	began   map[string][]hook.Record // all versions ever, of all transactions
	ended   map[string]hook.Record   // the last version of a transaction that has ended
	seen    int64                    // epoch at the last good Refresh
	saved   *backup
}

type transaction struct {
	rs    []hook.Record
	steps []int // what has not shown yet: -1 the epoch, else a record
	began time.Time
}

type backup struct {
	epoch       int64
	rows, ended map[string]hook.Record
}

func name(r hook.Record) string { return r.Kind + "/" + r.ID }

func (m *model) begin(t *rapid.T) {
	var rs []hook.Record
	for range rapid.IntRange(1, 3).Draw(t, "records") {
		m.n++
		r := hook.Record{
			Kind: rapid.SampledFrom(bothKinds).Draw(t, "kind"),
			ID:   rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"),
			Data: fmt.Append(nil, m.n),
		}
		if slices.ContainsFunc(rs, func(o hook.Record) bool { return name(o) == name(r) }) {
			continue
		}
		if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			r.Deleted, r.Data = true, nil
		}
		rs = append(rs, r)
	}
	rs = m.table.begin(rs...)
	steps := []int{-1}
	for i, r := range rs {
		m.began[name(r)] = append(m.began[name(r)], r)
		steps = append(steps, i)
	}
	m.pending = append(m.pending, transaction{rs, rapid.Permutation(steps).Draw(t, "order"), m.at})
}

func (m *model) show(t *rapid.T) {
	if len(m.pending) == 0 {
		t.Skip("nothing to show")
	}
	m.step(rapid.IntRange(0, len(m.pending)-1).Draw(t, "transaction"))
}

// step shows one more item of a pending transaction.
func (m *model) step(i int) {
	p := &m.pending[i]
	if k := p.steps[0]; k < 0 {
		m.table.showEpoch(p.rs[0])
	} else {
		m.table.show(p.rs[k])
	}
	if p.steps = p.steps[1:]; len(p.steps) > 0 {
		return
	}
	for _, r := range p.rs {
		if r.Changed > m.ended[name(r)].Changed {
			m.ended[name(r)] = r
		}
	}
	m.pending = slices.Delete(m.pending, i, i+1)
}

func (m *model) pass(t *rapid.T) {
	m.at = m.at.Add(time.Duration(rapid.Int64Range(1, 12_000).Draw(t, "ms")) * time.Millisecond)
	for i := 0; i < len(m.pending); {
		if m.at.Sub(m.pending[i].began) > 9*time.Second {
			m.step(i) // after its last step the next one is here
			continue
		}
		i++
	}
}

// sleep is a day and more without a look: all transactions end, and their
// tombstones expire.
func (m *model) sleep(*rapid.T) {
	for len(m.pending) > 0 {
		m.step(0)
	}
	m.at = m.at.Add(25 * time.Hour)
	maps.DeleteFunc(m.table.rows, func(_ string, r hook.Record) bool { return r.Deleted })
}

func (m *model) save(t *rapid.T) {
	if len(m.pending) > 0 {
		t.Skip("a backup holds whole transactions")
	}
	m.saved = &backup{m.table.epoch, maps.Clone(m.table.rows), maps.Clone(m.ended)}
}

// restore puts the backup in the table's place. That shows only if the feed has
// seen a later epoch, and looks before that one is reached again.
func (m *model) restore(t *rapid.T) {
	if m.saved == nil || m.saved.epoch >= m.seen {
		t.Skip("nothing that the feed could tell")
	}
	m.table.epoch, m.table.next, m.table.rows = m.saved.epoch, m.saved.epoch, maps.Clone(m.saved.rows)
	m.pending, m.ended = nil, maps.Clone(m.saved.ended)
	m.began = map[string][]hook.Record{}
	for k, r := range m.ended {
		m.began[k] = []hook.Record{r}
	}
	m.look(t)
}

func (m *model) refresh(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "fail") == 0 {
		left := rapid.IntRange(0, 3).Draw(t, "after")
		m.table.fail = func(string) error {
			if left--; left < 0 {
				return errors.New("down")
			}
			return nil
		}
	}
	m.look(t)
	m.table.fail = nil
}

// look refreshes, and compares if that went well.
func (m *model) look(t *rapid.T) {
	if err := m.feed.Refresh(context.Background()); err != nil {
		if m.table.fail == nil {
			t.Fatalf("Refresh() = %v; want nil", err)
		}
		return
	}
	m.seen = m.table.epoch
	has := m.shelf.holds()
	for k, r := range m.ended {
		// The last that was written, or what is being written after it.
		got, there := has[k]
		ok := !there && r.Deleted
		for _, v := range m.began[k] {
			ok = ok || v.Changed >= r.Changed && there != v.Deleted && got == string(v.Data)
		}
		if !ok {
			t.Fatalf("the sink has %s = %q, %t; want %q, %t or later", k, got, there, r.Data, !r.Deleted)
		}
	}
	for k := range has {
		if len(m.began[k]) == 0 {
			t.Fatalf("the sink has %s, which nobody wrote", k)
		}
	}
}
