package feed_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
)

// TestFeed_boltstore follows a real store, whose pages are small, while others
// write to it.
func TestFeed_boltstore(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), boltstore.Options{Strict: true, PageBytes: 200, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	write := func(r hook.Record) {
		t.Helper()
		c := []hook.Change{{Record: r, Expect: hook.ExpectAny}}
		if _, err := store.Write(t.Context(), hook.FeedHooks, c, nil, time.Now().UnixMilli()); err != nil {
			t.Errorf("Write() = %v; want nil", err)
		}
	}
	for i := range 50 {
		write(aHook(fmt.Sprintf("before-%02d", i), "x"))
	}

	s := newShelf()
	f := feed.New(store, hook.FeedHooks, bothKinds, s, nil)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			id := fmt.Sprintf("during-%d", w)
			for i := range 25 {
				r := aHook(id, fmt.Sprint(i))
				want := r.Data
				if i%5 == 4 {
					r, want = gone(hook.KindHook, id), nil
				}
				write(r)
				if err := f.Refresh(context.Background()); err != nil {
					t.Errorf("Refresh() = %v; want nil", err)
				}
				has := s.holds()
				if got := has["hook/"+id]; got != string(want) {
					t.Errorf("the sink has %s = %q; want %q", id, got, want)
				}
				if n := len(has); n < 50 {
					t.Errorf("the sink has %d records; want at least 50", n)
				}
			}
		})
	}
	wg.Wait()
}
