package match

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"eventhooks/internal/filter"
)

// group holds the enabled hooks of one binding and one workspace. A nil one has
// none.
type group struct {
	plain    []*entry // without a filter; in the order of ids
	filtered []*entry // the others, in the same order

	// set finds those of filtered that want an event. It is nil until an event
	// asks for it, so that a process which starts with thousands of hooks does
	// not read the filters of those that no event asks for.
	set     atomic.Pointer[filter.Set[*entry]]
	making  sync.Mutex // held by whoever makes set
	changes int        // of set since it was made
}

// size is how many hooks there are.
func (g *group) size() int {
	if g == nil {
		return 0
	}
	return len(g.plain) + len(g.filtered)
}

// unfiltered returns the hooks without a filter, in the order of ids. The list
// is not to be changed.
func (g *group) unfiltered() []*entry {
	if g == nil {
		return nil
	}
	return g.plain
}

func (g *group) put(e *entry, s *strange) {
	if len(e.hook.Filter) == 0 {
		g.plain = with(g.plain, e)
		return
	}
	g.filtered = with(g.filtered, e)
	if set := g.changing(); set != nil {
		e.readFilter(s)
		set.Put(e)
	}
}

func (g *group) remove(e *entry) {
	if len(e.hook.Filter) == 0 {
		g.plain = without(g.plain, e)
		return
	}
	g.filtered = without(g.filtered, e)
	if set := g.changing(); set != nil {
		set.Remove(e)
	}
}

// changing returns the set, to be changed; nil if there is none. After as many
// changes as there are hooks there is none any more: what was chosen for the
// hooks of long ago is chosen anew.
func (g *group) changing() *filter.Set[*entry] {
	set := g.set.Load()
	if set == nil {
		return nil
	}
	if g.changes++; g.changes > len(g.filtered) {
		g.set.Store(nil)
		return nil
	}
	return set
}

// wanting returns the hooks whose filters the data fit, in the order of ids. The
// list is not to be changed.
func (g *group) wanting(d *data, s *strange) []*entry {
	if g == nil || len(g.filtered) == 0 {
		return nil
	}
	members := d.read()
	if members == nil {
		return g.filtered
	}
	set := g.set.Load()
	if set == nil {
		set = g.make(s)
	}
	return set.Match(members)
}

// make makes the set, unless somebody else just did.
func (g *group) make(s *strange) *filter.Set[*entry] {
	g.making.Lock()
	defer g.making.Unlock()
	if set := g.set.Load(); set != nil {
		return set
	}
	for _, e := range g.filtered {
		e.readFilter(s)
	}
	set := filter.NewSet(byHookID, (*entry).pattern, g.filtered)
	g.changes = 0
	g.set.Store(set)
	return set
}

func (e *entry) pattern() *filter.Pattern { return e.filter }

func (e *entry) readFilter(s *strange) {
	if e.read {
		return
	}
	e.filter, e.read = parseFilter(e.hook.Filter), true
	if e.filter == nil {
		s.note(e.hook.ID)
	}
}

func with(entries []*entry, e *entry) []*entry {
	i, _ := slices.BinarySearchFunc(entries, e, byHookID)
	return slices.Insert(entries, i, e)
}

func without(entries []*entry, e *entry) []*entry {
	if i, found := slices.BinarySearchFunc(entries, e, byHookID); found {
		return slices.Delete(entries, i, i+1)
	}
	return entries
}

// strange holds the ids of hooks whose filter is none, until they are taken.
// Safe for concurrent use.
type strange struct {
	sync.Mutex
	ids map[string]bool
}

func (s *strange) note(id string) {
	s.Lock()
	defer s.Unlock()
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	s.ids[id] = true
}

func (s *strange) forget(id string) {
	s.Lock()
	defer s.Unlock()
	delete(s.ids, id)
}

func (s *strange) take() []string {
	s.Lock()
	defer s.Unlock()
	ids := slices.Sorted(maps.Keys(s.ids))
	clear(s.ids)
	return ids
}
