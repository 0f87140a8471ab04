// Package catalog knows which sources and events exist: those that are built
// in, and those that were registered.
//
// The built-in ones are Kong's, as its documentation lists them, and our own.
// Nothing is built before it is asked for: most functions look up one event.
package catalog

import (
	"maps"
	"slices"
	"strings"

	"eventhooks/internal/hook"
)

// Catalog is what exists at one time. It never changes, so it is safe for
// concurrent use; when something is registered, a new one is made.
type Catalog struct {
	custom map[string]map[string]hook.Source // source -> event
}

// New returns the catalogue of the built-in events and of the registered ones.
// A registered event takes the place of a built-in one of the same name; our
// own source cannot be replaced.
func New(custom []hook.Source) *Catalog {
	c := &Catalog{custom: make(map[string]map[string]hook.Source)}
	for _, s := range custom {
		if s.Source == hook.SystemSource {
			continue
		}
		events := c.custom[s.Source]
		if events == nil {
			events = make(map[string]hook.Source)
			c.custom[s.Source] = events
		}
		events[s.Event] = s
	}
	return c
}

// Lookup returns an event, and whether it exists. The source crud has an event
// for every entity, also for those of plugins nobody here has heard of:
// [a-z0-9_]+, alone or with :create, :update or :delete.
func (c *Catalog) Lookup(source, event string) (hook.Source, bool) {
	if s, ok := c.custom[source][event]; ok {
		return s, true
	}
	if source == crud {
		if entity, op, ok := crudParts(event); ok {
			return crudEntry(entity, op), true
		}
		return hook.Source{}, false
	}
	for i := range others {
		if others[i].source == source && others[i].event == event {
			return others[i].entry(), true
		}
	}
	return hook.Source{}, false
}

// Has reports whether Lookup finds the event, for less.
func (c *Catalog) Has(source, event string) bool {
	if _, ok := c.custom[source][event]; ok {
		return true
	}
	if source == crud {
		_, _, ok := crudParts(event)
		return ok
	}
	for i := range others {
		if others[i].source == source && others[i].event == event {
			return true
		}
	}
	return false
}

// Also returns what a built-in event carries at times beside its fields.
func Also(source, event string) []string {
	for i := range others {
		if others[i].source == source && others[i].event == event {
			return list(others[i].also)
		}
	}
	return nil
}

// HasSource reports whether any event of the source exists.
func (c *Catalog) HasSource(source string) bool {
	if _, ok := c.custom[source]; ok || source == crud {
		return true
	}
	return slices.ContainsFunc(others, func(b builtIn) bool { return b.source == source })
}

// Sources returns the names of all sources, sorted.
func (c *Catalog) Sources() []string {
	names := append(make([]string, 0, len(c.custom)+len(others)+1), crud)
	for _, b := range others {
		names = append(names, b.source)
	}
	names = slices.AppendSeq(names, maps.Keys(c.custom))
	slices.Sort(names)
	return slices.Compact(names)
}

// Events returns the events of a source, sorted by name: of crud those that
// Kong documents, though Lookup takes more. Empty when there is no such source.
func (c *Catalog) Events(source string) []hook.Source {
	var events []hook.Source
	for _, s := range builtInOf(source) {
		if _, replaced := c.custom[source][s.Event]; !replaced {
			events = append(events, s)
		}
	}
	events = slices.AppendSeq(events, maps.Values(c.custom[source]))
	slices.SortFunc(events, func(a, b hook.Source) int { return strings.Compare(a.Event, b.Event) })
	return events
}

// BuiltIn returns every event that is built in, sorted by source and event.
func BuiltIn() []hook.Source {
	var all []hook.Source
	for _, source := range New(nil).Sources() {
		all = append(all, builtInOf(source)...)
	}
	slices.SortFunc(all, func(a, b hook.Source) int {
		if n := strings.Compare(a.Source, b.Source); n != 0 {
			return n
		}
		return strings.Compare(a.Event, b.Event)
	})
	return all
}

func builtInOf(source string) []hook.Source {
	var events []hook.Source
	if source == crud {
		events = make([]hook.Source, 0, (1+len(operations))*(len(coreEntities)+len(pluginEntities)))
		for _, list := range [][]string{coreEntities, pluginEntities} {
			for _, entity := range list {
				events = append(events, crudEntry(entity, ""))
				for _, op := range operations {
					events = append(events, crudEntry(entity, op))
				}
			}
		}
		return events
	}
	for _, b := range others {
		if b.source == source {
			events = append(events, b.entry())
		}
	}
	return events
}
