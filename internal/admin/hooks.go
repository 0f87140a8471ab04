package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventhooks/internal/catalog"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

const (
	// maxHookBytes bounds a hook's stored form.
	maxHookBytes = 64 << 10
	// maxTries is how often a change is begun anew because another got in
	// between.
	maxTries = 20
)

func (s *Service) listHooks(ctx context.Context, c *call) (*answer, error) {
	p, err := c.paging(isID)
	if err != nil {
		return nil, err
	}
	tagged, err := tagFilter(p.query)
	if err != nil {
		return nil, err
	}
	source, bySource := p.query.Get("source"), p.query.Has("source")
	last, err := s.fill(ctx, p, hook.KindHook, "", bySource || p.query.Has("tags"), func(r hook.Record) (any, bool, error) {
		h, err := s.toHook(r)
		if err != nil || bySource && h.Source != source || !tagged(h.Tags) {
			return nil, false, err
		}
		return schema.ShowHook(h, c.view), true, nil
	})
	if err != nil {
		return nil, err
	}
	return p.answer("/event-hooks", last, "tags", "source"), nil
}

func (s *Service) getHook(ctx context.Context, c *call) (*answer, error) {
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowHook(h, c.view)).with("ETag", etag(h)), nil
}

func (s *Service) createHook(ctx context.Context, c *call) (*answer, error) {
	doc, err := c.document(schema.HookForm())
	if err != nil {
		return nil, err
	}
	h, err := s.read(schema.NewHook(doc, "", nil))
	if err != nil {
		return nil, err
	}
	if h.ID == "" {
		h.ID = s.o.NewID()
	}
	h, err = s.insert(ctx, h)
	if errors.Is(err, hook.ErrExists) {
		return nil, idTaken(h.ID)
	}
	if err != nil {
		return nil, err
	}
	a := s.written(ctx, c, h)
	a.status = http.StatusCreated
	return a, nil
}

func (s *Service) patchHook(ctx context.Context, c *call) (*answer, error) {
	h, err := s.hook(ctx, c, noEntity("id", c.params["id"]))
	if err != nil {
		return nil, err
	}
	doc, err := c.document(schema.HookForm())
	if err != nil {
		return nil, err
	}
	return s.change(ctx, c, h, func(stored hook.Hook) (hook.Hook, error) {
		return s.read(schema.PatchHook(doc, stored))
	})
}

func (s *Service) putHook(ctx context.Context, c *call) (*answer, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	doc, err := c.document(schema.HookForm())
	if err != nil {
		return nil, err
	}
	for range maxTries {
		stored, err := s.hook(ctx, c, errNotFound())
		if err == nil {
			if c.Header.Get("If-None-Match") == "*" {
				return nil, refuse(http.StatusPreconditionFailed, "there is a hook under this id already")
			}
			a, err := s.change(ctx, c, stored, func(stored hook.Hook) (hook.Hook, error) {
				return s.read(schema.NewHook(doc, id, &stored))
			})
			if isAbsent(err) { // deleted meanwhile: then create it
				continue
			}
			return a, err
		}
		if !isAbsent(err) {
			return nil, err
		}
		if c.Header.Get("If-Match") != "" {
			return nil, refuse(http.StatusPreconditionFailed, "there is no hook under this id, so none that If-Match could name")
		}
		h, err := s.read(schema.NewHook(doc, id, nil))
		if err != nil {
			return nil, err
		}
		h, err = s.insert(ctx, h)
		if errors.Is(err, hook.ErrExists) { // created meanwhile: then replace that one
			continue
		}
		if err != nil {
			return nil, err
		}
		return s.written(ctx, c, h), nil
	}
	return nil, hook.ErrBusy
}

func (s *Service) deleteHook(ctx context.Context, c *call) (*answer, error) {
	for range maxTries {
		h, err := s.hook(ctx, c, errNotFound())
		if err != nil {
			return nil, err
		}
		if !c.ifMatch(h) {
			return nil, changedMeanwhile()
		}
		_, err = s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{
			Record: hook.Record{Kind: hook.KindHook, ID: h.ID, Deleted: true}, Expect: h.Changed,
		}}, nil, s.now())
		if errors.Is(err, hook.ErrStale) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("delete hook %s: %w", h.ID, err)
		}
		return noContent(), nil
	}
	return nil, hook.ErrBusy
}

// hook returns the hook that the path names; absent is the error when there is
// none.
func (s *Service) hook(ctx context.Context, c *call, absent error) (hook.Hook, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return hook.Hook{}, invalidID()
	}
	return s.hookByID(ctx, id, absent)
}

func (s *Service) hookByID(ctx context.Context, id string, absent error) (hook.Hook, error) {
	r, err := s.o.Store.Get(ctx, hook.KindHook, id, s.now())
	if errors.Is(err, hook.ErrNotFound) {
		return hook.Hook{}, absent
	}
	if err != nil {
		return hook.Hook{}, fmt.Errorf("read hook %s: %w", id, err)
	}
	return s.toHook(r)
}

// toHook reads a hook's record. Of a rotation whose grace is over nothing is
// left: it is not shown, and the next write of the hook drops the old secret.
func (s *Service) toHook(r hook.Record) (hook.Hook, error) {
	h, err := record.ToHook(r)
	if _, rotating := h.Config.Rotating(s.o.Now().Unix()); !rotating {
		h.Config.OldSecret, h.Config.OldSecretUntil = hook.Secret{}, 0
	}
	return h, err
}

// read completes the reading of a hook: what only the compiling of its
// templates and functions finds is told together with what the schema found.
func (s *Service) read(h hook.Hook, err error) (hook.Hook, error) {
	faults, isFaults := errors.AsType[*schema.Faults](err)
	if err != nil && !isFaults {
		return h, err
	}
	if faults == nil {
		faults = &schema.Faults{}
	}
	faults.AddFields(s.o.Check(h))
	whole := h
	whole.Config.OldSecret, whole.Config.OldSecretUntil = hook.Secret{}, 0 // it is not the writer's
	if r, err := record.Hook(whole); err != nil {
		return h, err
	} else if len(r.Data) > maxHookBytes {
		faults.AddEntity(fmt.Sprintf("a hook is at most %d bytes; this one is %d", maxHookBytes, len(r.Data)))
	}
	return h, faults.Err()
}

// insert stores a new hook and returns it as it is stored; hook.ErrExists when
// its id is taken.
func (s *Service) insert(ctx context.Context, h hook.Hook) (hook.Hook, error) {
	at := s.o.Now()
	h.CreatedAt, h.UpdatedAt = at.Unix(), at.Unix()
	r, err := record.Hook(h)
	if err != nil {
		return h, err
	}
	// The ping's row goes into the hook's own transaction: whoever sees the
	// hook created can rely on its ping. Should we die before the wake-up is
	// sent, the sweep finds the row.
	var rows []hook.Delivery
	if h.Handler == hook.HandlerWebhook && h.Enabled {
		rows = append(rows, s.ping(h, at))
	}
	epoch, err := s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{Record: r, Expect: hook.ExpectAbsent}}, rows, at.UnixMilli())
	if err != nil {
		return h, fmt.Errorf("create hook %s: %w", h.ID, err)
	}
	h.Changed, h.Gen = epoch, epoch
	s.wake(ctx, rows...)
	return h, nil
}

// ping is the first row of the ping of a new hook.
func (s *Service) ping(h hook.Hook, at time.Time) hook.Delivery {
	return hook.Delivery{
		HookID: h.ID,
		Event: hook.Event{
			ID: s.o.IDs.Next(), Source: hook.PingSource, Event: hook.PingEvent,
			Time: at.UTC(), Data: schema.PingData(h),
		},
		Status: hook.Pending, Run: 1, Seq: 1,
		CreatedMS: at.UnixMilli(), DeadlineMS: h.Retry.Deadline(at).UnixMilli(),
		DueMS: at.UnixMilli(), WakeMS: at.Add(hook.WakeSlack).UnixMilli(),
	}
}

// change is replace, and its answer.
func (s *Service) change(ctx context.Context, c *call, stored hook.Hook, decide func(stored hook.Hook) (hook.Hook, error)) (*answer, error) {
	h, err := s.replace(ctx, c, stored, noEntity("id", stored.ID), decide)
	if err != nil {
		return nil, err
	}
	return s.written(ctx, c, h), nil
}

// replace puts what decide makes of a stored hook in its place, and does so
// anew when another change got in between; absent is the error when that was
// its deletion. It returns the hook as it is stored.
func (s *Service) replace(ctx context.Context, c *call, stored hook.Hook, absent error, decide func(stored hook.Hook) (hook.Hook, error)) (hook.Hook, error) {
	for range maxTries {
		if !c.ifMatch(stored) {
			return stored, changedMeanwhile()
		}
		h, err := decide(stored)
		if err != nil {
			return h, err
		}
		h.CreatedAt, h.UpdatedAt, h.Gen = stored.CreatedAt, s.o.Now().Unix(), stored.Gen
		if !h.Enabled {
			h.DisabledReason = stored.DisabledReason // it was the system, until a person enables the hook
		}
		r, err := record.Hook(h)
		if err != nil {
			return h, err
		}
		epoch, err := s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{Record: r, Expect: stored.Changed}}, nil, s.now())
		if err == nil {
			h.Changed = epoch
			return h, nil
		}
		if !errors.Is(err, hook.ErrStale) {
			return h, fmt.Errorf("change hook %s: %w", h.ID, err)
		}
		stored, err = s.hookByID(ctx, stored.ID, absent)
		if err != nil {
			return stored, err
		}
	}
	return stored, hook.ErrBusy
}

// written answers a write of a hook: the hook, and what is odd about it. The
// write is done, so it is answered also when that cannot be looked up: who is
// told that it failed makes the hook again.
func (s *Service) written(ctx context.Context, c *call, h hook.Hook) *answer {
	shown := schema.ShowHook(h, c.view)
	var err error
	if shown.Warnings, err = s.warnings(ctx, h); err != nil {
		s.o.Log.WarnContext(ctx, "warnings about a hook that was written are not known", "hook_id", h.ID, "err", err)
	}
	return ok(shown).with("ETag", etag(h))
}

// warnings tells what is odd about a hook, though nothing is wrong with it: what
// the catalogue does not know, the hook's event and names in its templates.
func (s *Service) warnings(ctx context.Context, h hook.Hook) ([]string, error) {
	events, err := s.eventsOf(ctx, h.Source, h.Event)
	if err != nil {
		return nil, err
	}
	what := h.Source
	if h.Event != "" {
		what += "/" + h.Event
	}
	if len(events) == 0 {
		return []string{what + " is not in the catalogue"}, nil
	}
	known := []string{"source", "event"}
	for _, e := range events {
		if len(e.Fields) == 0 { // nothing is known of its data
			return nil, nil
		}
		known = append(append(known, e.Fields...), catalog.Also(e.Source, e.Event)...)
	}
	var unknown []string
	for _, name := range s.o.Names(h) {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name+": the catalogue lists no such field for "+what)
		}
	}
	return unknown, nil
}

// eventsOf returns the event, or all events of the source when event is "";
// none when the catalogue does not know it.
func (s *Service) eventsOf(ctx context.Context, source, event string) ([]hook.Source, error) {
	builtIn := catalog.New(nil)
	if event != "" {
		if e, ok := builtIn.Lookup(source, event); ok {
			return []hook.Source{e}, nil
		}
		e, err := s.customEvent(ctx, source, event)
		if errors.Is(err, hook.ErrNotFound) {
			return nil, nil
		}
		return []hook.Source{e}, err
	}
	events := builtIn.Events(source)
	if !schema.IsSourceName(source) {
		return events, nil
	}
	err := s.all(ctx, hook.KindSource, source+"/", func(r hook.Record) (bool, error) {
		e, err := record.ToSource(r)
		events = append(events, e)
		return true, err
	})
	return events, err
}

func changedMeanwhile() error {
	return refuse(http.StatusPreconditionFailed, "the hook was changed meanwhile: read it again")
}

// etag names the version of a hook.
func etag(h hook.Hook) string { return `"` + strconv.FormatInt(h.Changed, 10) + `"` }

// ifMatch reports whether the stored hook is one that If-Match names. Without
// the header any is.
func (c *call) ifMatch(h hook.Hook) bool {
	header := strings.Join(c.Header.Values("If-Match"), ",")
	if header == "" {
		return true
	}
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(h) {
			return true
		}
	}
	return false
}
