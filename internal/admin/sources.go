package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"eventhooks/internal/catalog"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// data is the envelope of what is no list.
type data struct {
	Data any `json:"data"`
}

// events are those of one source, by name.
type events map[string]schema.ShownSource

func (s *Service) listSources(ctx context.Context, _ *call) (*answer, error) {
	var custom []hook.Source
	err := s.all(ctx, hook.KindSource, "", func(r hook.Record) (bool, error) {
		e, err := record.ToSource(r)
		custom = append(custom, e)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	c := catalog.New(custom)
	sources := make(map[string]events)
	for _, source := range c.Sources() {
		sources[source] = show(c.Events(source))
	}
	a, fits := whole(sources)
	if !fits {
		for source := range sources {
			sources[source].dropSamples()
		}
		a, fits = whole(sources)
	}
	if !fits {
		return nil, refuse(http.StatusBadRequest, "there are more events than one answer holds: ask for those of one source")
	}
	return a, nil
}

// whole answers what has no pages, in Kong's form, and reports whether one
// answer can hold it.
func whole(v any) (a *answer, fits bool) {
	b, err := strictjson.Encode(data{v})
	if err != nil { // our own types: it does not happen
		return ok(data{v}), true
	}
	return ok(json.RawMessage(b)), weight(b) <= maxPageBytes
}

// dropSamples leaves out what is the largest, and has a page of its own.
func (e events) dropSamples() {
	for name, shown := range e {
		shown.Sample = nil
		e[name] = shown
	}
}

func (s *Service) getSource(ctx context.Context, c *call) (*answer, error) {
	found, err := s.eventsOf(ctx, c.params["source"], "")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errNotFound()
	}
	shown := show(found)
	a, fits := whole(shown)
	if !fits {
		shown.dropSamples()
		a, fits = whole(shown)
	}
	if !fits {
		return nil, refuse(http.StatusBadRequest, "there are more events than one answer holds: ask for them by name")
	}
	return a, nil
}

func (s *Service) getSourceEvent(ctx context.Context, c *call) (*answer, error) {
	found, err := s.eventsOf(ctx, c.params["source"], c.params["event"])
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errNotFound()
	}
	return ok(data{schema.ShowSource(found[0])}), nil
}

func (s *Service) putSourceEvent(ctx context.Context, c *call) (*answer, error) {
	doc, err := c.document(schema.SourceForm())
	if err != nil {
		return nil, err
	}
	e, err := schema.NewSource(doc, c.params["source"], c.params["event"])
	if err != nil {
		return nil, err
	}
	if isBuiltIn(e.Source, e.Event) {
		return nil, refuse(http.StatusConflict, "%s is built in and cannot be replaced", e.Key())
	}
	r, err := record.Source(e)
	if err != nil {
		return nil, err
	}
	for range maxTries {
		// Whether it was there decides between 200 and 201 only, but that
		// much is promised, so the write holds on to what was read.
		old, err := s.o.Store.Get(ctx, hook.KindSource, r.ID, s.now())
		if err != nil && !errors.Is(err, hook.ErrNotFound) {
			return nil, fmt.Errorf("read source %s: %w", r.ID, err)
		}
		expect := hook.ExpectAbsent
		if err == nil {
			expect = old.Changed
		}
		_, err = s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{Record: r, Expect: expect}}, nil, s.now())
		switch {
		case errors.Is(err, hook.ErrStale) || errors.Is(err, hook.ErrExists):
			continue
		case err != nil:
			return nil, fmt.Errorf("write source %s: %w", r.ID, err)
		case expect == hook.ExpectAbsent:
			return created(data{schema.ShowSource(e)}), nil
		}
		return ok(data{schema.ShowSource(e)}), nil
	}
	return nil, hook.ErrBusy
}

func (s *Service) deleteSourceEvent(ctx context.Context, c *call) (*answer, error) {
	e, err := s.customEvent(ctx, c.params["source"], c.params["event"])
	if errors.Is(err, hook.ErrNotFound) {
		if isBuiltIn(c.params["source"], c.params["event"]) {
			return nil, refuse(http.StatusConflict, "%s/%s is built in and cannot be deleted", c.params["source"], c.params["event"])
		}
		return nil, errNotFound()
	}
	if err != nil {
		return nil, err
	}
	force := c.URL.Query().Get("force")
	if force != "" && force != "true" && force != "false" {
		return nil, invalidOption("force", "expected one of: true, false")
	}
	if force != "true" {
		// A hook that is created while we look stays, as with force: hooks may
		// be for events that nobody knows.
		user := ""
		err := s.all(ctx, hook.KindHook, "", func(r hook.Record) (bool, error) {
			h, err := record.ToHook(r)
			if err == nil && h.Source == e.Source && (h.Event == e.Event || h.Event == "") {
				user = h.ID
			}
			return user == "", err
		})
		if err != nil {
			return nil, err
		}
		if user != "" {
			return nil, refuse(http.StatusConflict, "%s is used by hook %s and perhaps others; ?force=true deletes it all the same", e.Key(), user)
		}
	}
	_, err = s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{
		Record: hook.Record{Kind: hook.KindSource, ID: e.Key(), Deleted: true}, Expect: hook.ExpectAny,
	}}, nil, s.now())
	if err != nil {
		return nil, fmt.Errorf("delete source %s: %w", e.Key(), err)
	}
	return noContent(), nil
}

// customEvent returns a registered event, or hook.ErrNotFound.
func (s *Service) customEvent(ctx context.Context, source, event string) (hook.Source, error) {
	if !schema.IsSourceName(source) || !schema.IsSourceName(event) {
		return hook.Source{}, hook.ErrNotFound
	}
	key := hook.Source{Source: source, Event: event}.Key()
	r, err := s.o.Store.Get(ctx, hook.KindSource, key, s.now())
	if err != nil {
		return hook.Source{}, fmt.Errorf("read source %s: %w", key, err)
	}
	return record.ToSource(r)
}

func isBuiltIn(source, event string) bool {
	_, found := catalog.New(nil).Lookup(source, event)
	return found
}

func show(list []hook.Source) events {
	shown := make(events, len(list))
	for _, e := range list {
		shown[e.Event] = schema.ShowSource(e)
	}
	return shown
}
