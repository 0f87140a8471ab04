package admin

import (
	"context"
	"errors"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/match"
	"eventhooks/internal/schema"
)

// renderHook shows what a hook would send of an event. Neither is stored, and
// nothing is sent.
func (s *Service) renderHook(ctx context.Context, c *call) (*answer, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	doc, err := c.document(schema.RenderingForm())
	if err != nil {
		return nil, err
	}
	r, err := schema.NewRendering(doc)
	h, err := s.rendered(ctx, r, err)
	if err != nil {
		return nil, err
	}
	ev, err := s.sample(ctx, h, r)
	if err != nil {
		return nil, err
	}
	reasons := match.Explain(h, ev)
	shown := schema.ShownRendering{Matches: len(reasons) == 0, Reasons: list(reasons), Event: schema.ShowEvent(ev)}
	shown.Request, shown.Error = s.request(h, ev, s.o.Now(), schema.ForAdmin, r.Kept)
	warnings, err := s.warnings(ctx, h)
	if err != nil {
		return nil, err
	}
	shown.Warnings = list(warnings)
	return ok(shown), nil
}

// rendered reads the hook of a rendering as POST does. err is what is wrong
// with the rendering so far: all faults are told together.
func (s *Service) rendered(ctx context.Context, r schema.Rendering, err error) (hook.Hook, error) {
	faults, isFaults := errors.AsType[*schema.Faults](err)
	if err != nil && !isFaults || r.Hook == nil {
		return hook.Hook{}, err
	}
	var stored *hook.Hook
	if r.HookID != "" {
		h, err := s.hookByID(ctx, r.HookID, errNotFound())
		switch _, absent := errors.AsType[*refusal](err); {
		case err == nil:
			stored = &h
		case !absent:
			return h, err
		}
	}
	// The id is checked as that of a hook to be: it is not given to NewHook.
	h, err := s.read(schema.NewHook(r.Hook, "", stored))
	below, isFaults := errors.AsType[*schema.Faults](err)
	if err != nil && !isFaults {
		return h, err
	}
	if faults == nil {
		faults = &schema.Faults{}
	}
	if below != nil {
		faults.Nest("hook", below)
	}
	if h.ID == "" {
		h.ID = s.o.NewID() // as POST would
	}
	return h, faults.Err()
}

// sample returns the event that a rendering is about: what it says, completed
// by the hook and the catalogue.
func (s *Service) sample(ctx context.Context, h hook.Hook, r schema.Rendering) (hook.Event, error) {
	ev := hook.Event{
		ID: s.o.IDs.Next(), Source: r.Source, Event: r.Event, Time: s.o.Now().UTC(), Data: r.Data, Workspace: r.Workspace,
	}
	if ev.Source == "" {
		ev.Source = h.Source
	}
	if ev.Event == "" {
		ev.Event = h.Event
	}
	if ev.Event == "" {
		ev.Event = "test"
	}
	if ev.Data != nil {
		return ev, nil
	}
	ev.Data = []byte("{}")
	known, err := s.eventsOf(ctx, ev.Source, ev.Event)
	if err != nil {
		return ev, err
	}
	if len(known) > 0 && known[0].Sample != nil {
		ev.Data = known[0].Sample
	}
	return ev, nil
}

// request shows the request of a hook for an event, or says why it cannot be
// built: nothing for a hook that makes none.
func (s *Service) request(h hook.Hook, ev hook.Event, at time.Time, v schema.View, kept schema.Kept) (shown *schema.ShownRequest, fault *string) {
	if !h.Calls() {
		return nil, nil
	}
	r, err := s.o.Action.Request(h, ev, at)
	if err != nil {
		text := err.Error()
		return nil, &text
	}
	return schema.ShowRequest(r, v, kept), nil
}

// list is what JSON shows as an array, also when it is empty.
func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
