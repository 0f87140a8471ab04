package deliver

import (
	"sync"

	"eventhooks/internal/catalog"
	"eventhooks/internal/hook"
	"eventhooks/internal/match"
	"eventhooks/internal/record"
)

// hooks is the copy of hooks and sources that the feed keeps current. The feed
// holds its lock while it changes it, so that an event is never matched against
// a half-loaded copy.
type hooks struct {
	sync.RWMutex
	index   match.Index
	sources map[string]hook.Source
	catalog *catalog.Catalog // nil: to be made anew from sources
}

func newHooks() *hooks { return &hooks{sources: map[string]hook.Source{}} }

// Reset forgets everything; the feed loads afresh.
func (c *hooks) Reset() {
	c.index, c.sources, c.catalog = match.Index{}, map[string]hook.Source{}, nil
}

// Apply takes over one record. A record that cannot be read stops the feed, and
// with it all delivery: going on without a hook would lose its events.
func (c *hooks) Apply(r hook.Record) error {
	switch r.Kind {
	case hook.KindHook:
		if r.Deleted {
			c.index.Remove(r.ID)
			return nil
		}
		h, err := record.ToHook(r)
		if err != nil {
			return err
		}
		c.index.Put(h)
	case hook.KindSource:
		c.catalog = nil
		if r.Deleted {
			delete(c.sources, r.ID)
			return nil
		}
		s, err := record.ToSource(r)
		if err != nil {
			return err
		}
		c.sources[r.ID] = s
	}
	return nil
}

// match returns the hooks that want the event, and counts those that do not.
func (c *hooks) match(ev hook.Event) ([]hook.Hook, match.Dropped) {
	c.RLock()
	defer c.RUnlock()
	return c.index.Match(nil, ev)
}

// unreadable returns the hooks whose filters turned out to be none since it was
// last asked: they are told of everything.
func (c *hooks) unreadable() []string {
	c.RLock()
	defer c.RUnlock()
	return c.index.Unreadable()
}

func (c *hooks) hook(id string) (hook.Hook, bool) {
	c.RLock()
	defer c.RUnlock()
	return c.index.Hook(id)
}

// source returns the catalogue's entry of the event, zero when it has none.
func (c *hooks) source(ev hook.Event) hook.Source {
	c.Lock()
	defer c.Unlock()
	if c.catalog == nil {
		custom := make([]hook.Source, 0, len(c.sources))
		for _, s := range c.sources {
			custom = append(custom, s)
		}
		c.catalog = catalog.New(custom)
	}
	s, _ := c.catalog.Lookup(ev.Source, ev.Event)
	return s
}
