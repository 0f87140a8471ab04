// Package match decides which hooks want an event, and under which keys
// on_change and snooze remember it.
//
// It is pure: no I/O, no clock.
package match

import (
	"cmp"

	"eventhooks/internal/filter"
	"eventhooks/internal/hook"
)

// Index finds the hooks that want an event. The zero value is empty and ready.
// Not safe for concurrent use while it changes.
type Index struct {
	byID    map[string]*entry
	buckets map[binding]*bucket
	strange strange
}

// binding is what a hook is bound to; event "" is every event of the source.
type binding struct{ source, event string }

// bucket holds the hooks of one binding. Those that are disabled are counted,
// and that is all: no event looks at them.
type bucket struct {
	enabled, disabled int
	workspaces        map[string]*group // "" is that of the hooks without one
}

// entry is a hook with its filter.
type entry struct {
	hook   hook.Hook
	read   bool // whether filter was read
	filter *filter.Pattern
}

func (e *entry) binding() binding { return binding{e.hook.Source, e.hook.Event} }

func byHookID(a, b *entry) int { return cmp.Compare(a.hook.ID, b.hook.ID) }

// Put adds a hook or replaces the one with its id.
func (x *Index) Put(h hook.Hook) {
	if x.byID == nil {
		x.byID, x.buckets = map[string]*entry{}, map[binding]*bucket{}
	}
	x.Remove(h.ID)
	e := &entry{hook: h}
	x.byID[h.ID] = e
	b := x.buckets[e.binding()]
	if b == nil {
		b = &bucket{workspaces: map[string]*group{}}
		x.buckets[e.binding()] = b
	}
	if !h.Enabled {
		b.disabled++
		return
	}
	b.enabled++
	g := b.workspaces[h.Workspace]
	if g == nil {
		g = &group{}
		b.workspaces[h.Workspace] = g
	}
	g.put(e, &x.strange)
}

// Remove takes a hook out, if it is there.
func (x *Index) Remove(id string) {
	e, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	x.strange.forget(id)
	b := x.buckets[e.binding()]
	if e.hook.Enabled {
		b.enabled--
		g := b.workspaces[e.hook.Workspace]
		if g.remove(e); g.size() == 0 {
			delete(b.workspaces, e.hook.Workspace)
		}
	} else {
		b.disabled--
	}
	if b.enabled+b.disabled == 0 {
		delete(x.buckets, e.binding())
	}
}

// Hook returns the hook with that id.
func (x *Index) Hook(id string) (hook.Hook, bool) {
	if e, ok := x.byID[id]; ok {
		return e.hook, true
	}
	return hook.Hook{}, false
}

// Len returns the number of hooks.
func (x *Index) Len() int { return len(x.byID) }

// Unreadable returns, in order, the ids of hooks whose filter turned out to be
// none since it was last asked. They are told of everything that they are bound
// to. A filter is read when an event first asks for it. Safe for concurrent use
// as Match is.
func (x *Index) Unreadable() []string { return x.strange.take() }

// Dropped counts the hooks that are bound to an event's source and event and are
// not told of it, each under the first reason there is.
type Dropped struct{ Disabled, Workspace, Filter int }

// Add adds those of another event.
func (d *Dropped) Add(o Dropped) {
	d.Disabled += o.Disabled
	d.Workspace += o.Workspace
	d.Filter += o.Filter
}

// Match appends to dst the hooks that want the event, and counts the others:
// first those bound to the event, then those bound to its whole source, each in
// the order of ids. The cost is that of the hooks that want it, and of those
// whose filter no value of the data rules out beforehand, however many others
// there are. The event's data are read once, and only if there is a filter to
// ask. Safe for concurrent use while the index does not change.
func (x *Index) Match(dst []hook.Hook, ev hook.Event) ([]hook.Hook, Dropped) {
	var dropped Dropped
	d := data{raw: ev.Data}
	dst = x.match(dst, binding{ev.Source, ev.Event}, ev.Workspace, &d, &dropped)
	if ev.Event != "" {
		dst = x.match(dst, binding{ev.Source, ""}, ev.Workspace, &d, &dropped)
	}
	return dst, dropped
}

func (x *Index) match(dst []hook.Hook, to binding, workspace string, d *data, dropped *Dropped) []hook.Hook {
	b := x.buckets[to]
	if b == nil {
		return dst
	}
	before := len(dst)
	all := b.workspaces[""]
	var own *group
	if workspace != "" {
		own = b.workspaces[workspace]
	}
	dst = merge(dst, all.unfiltered(), all.wanting(d, &x.strange), own.unfiltered(), own.wanting(d, &x.strange))
	fit := all.size() + own.size()
	dropped.Disabled += b.disabled
	dropped.Workspace += b.enabled - fit
	dropped.Filter += fit - (len(dst) - before)
	return dst
}

// merge appends the hooks of lists that are in the order of ids, in that order.
func merge(dst []hook.Hook, lists ...[]*entry) []hook.Hook {
	for {
		first := -1
		for i, l := range lists {
			if len(l) > 0 && (first < 0 || l[0].hook.ID < lists[first][0].hook.ID) {
				first = i
			}
		}
		if first < 0 {
			return dst
		}
		dst = append(dst, lists[first][0].hook)
		lists[first] = lists[first][1:]
	}
}
