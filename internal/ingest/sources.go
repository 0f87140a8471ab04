package ingest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"eventhooks/internal/catalog"
	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
)

// freshFor is how long the catalogue is believed without a look at the store:
// so long a source that was removed may still be posted. One that was added is
// known at once, because an unknown one is looked for.
const freshFor = 60 * time.Second

// sources keeps the catalogue current. It is safe for concurrent use.
type sources struct {
	feed *feed.Feed
	now  func() time.Time

	current     atomic.Pointer[catalog.Catalog]
	refreshedMS atomic.Int64 // when the last refresh began, successful or not; wall clock

	turn chan struct{} // holds a token while somebody refreshes and publishes

	mu    sync.Mutex
	known map[string]hook.Source // by record id
	moved bool                   // known is not what current was made of
}

func newSources(store feed.Store, now func() time.Time) *sources {
	s := &sources{now: now, turn: make(chan struct{}, 1), known: make(map[string]hook.Source)}
	s.current.Store(catalog.New(nil))
	s.feed = feed.New(store, hook.FeedHooks, []string{hook.KindSource}, s, now)
	return s
}

func (s *sources) catalog() *catalog.Catalog { return s.current.Load() }

// stale reports whether it is time for a look at the store.
func (s *sources) stale() bool {
	since := s.now().UnixMilli() - s.refreshedMS.Load()
	return since < 0 || since >= freshFor.Milliseconds()
}

// refresh reads what changed. After it the catalogue has every source whose
// registration ended before the call.
func (s *sources) refresh(ctx context.Context) error {
	s.refreshedMS.Store(s.now().UnixMilli())
	// One at a time, or another's Refresh could be between Reset and its
	// records just when this one publishes.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.feed.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh catalogue: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved {
		custom := make([]hook.Source, 0, len(s.known))
		for _, src := range s.known {
			custom = append(custom, src)
		}
		s.current.Store(catalog.New(custom))
		s.moved = false
	}
	return nil
}

// Reset forgets every registered source, for the feed.
func (s *sources) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
	s.moved = true
}

// Apply takes over one registered source, for the feed. Only its name counts
// here, and that is in the record's id: a document that this program cannot
// read still names an event that exists.
func (s *sources) Apply(r hook.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = true
	if r.Deleted {
		delete(s.known, r.ID)
		return nil
	}
	if source, event, ok := strings.Cut(r.ID, "/"); ok {
		s.known[r.ID] = hook.Source{Source: source, Event: event}
	}
	return nil
}
