package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// answer is what goes back.
type answer struct {
	status int
	header map[string]string
	body   any // nil for no body
}

func ok(body any) *answer { return &answer{status: http.StatusOK, body: body} }

func accepted(body any) *answer { return &answer{status: http.StatusAccepted, body: body} }

func created(body any) *answer { return &answer{status: http.StatusCreated, body: body} }

func noContent() *answer { return &answer{status: http.StatusNoContent} }

// with adds a header.
func (a *answer) with(name, value string) *answer {
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header[name] = value
	return a
}

func (a *answer) write(w http.ResponseWriter, method string) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	b, err := strictjson.Encode(a.body)
	if err != nil { // our own types: it does not happen
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Cache-Control", "no-store") // what is read depends on the token
	w.WriteHeader(a.status)
	if method != http.MethodHead {
		_, _ = w.Write(b) // nobody is left to tell
	}
}

// told is the body of answers that are not Kong's errors.
type told struct {
	Message string `json:"message"`
}

// violation is Kong's error body.
type violation struct {
	Code    int    `json:"code"`
	Name    string `json:"name"`
	Message string `json:"message"`
	Fields  any    `json:"fields,omitempty"`
	Options any    `json:"options,omitempty"`
}

// refusal is an error that is an answer.
type refusal struct{ answer }

func (r *refusal) Error() string { return fmt.Sprintf("refused with status %d", r.status) }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{answer{status: status, body: told{fmt.Sprintf(format, args...)}}}
}

func errNotFound() *refusal { return refuse(http.StatusNotFound, "Not found") }

// isAbsent reports whether an error is the answer that something is not there.
func isAbsent(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.status == http.StatusNotFound
}

func forbidden(scope string) *refusal {
	return refuse(http.StatusForbidden, "this needs a token of scope %s", scope)
}

func methodNotAllowed(allowed []string) *refusal {
	r := refuse(http.StatusMethodNotAllowed, "Method not allowed")
	r.with("Allow", strings.Join(allowed, ", "))
	return r
}

// Kong's errors. A key is written as Lua's pretty-printer does: {id="..."}.

// noUUID is what is wrong with an id that is none.
const noUUID = "expected a valid UUID"

func invalidID() *refusal { return invalidKey("id", noUUID) }

func invalidKey(field, fault string) *refusal {
	return &refusal{answer{status: http.StatusBadRequest, body: violation{
		Code: 1, Name: "invalid primary key", Message: "invalid primary key: '" + luaKey(field, fault) + "'",
		Fields: map[string]string{field: fault},
	}}}
}

func idTaken(id string) *refusal {
	return &refusal{answer{status: http.StatusBadRequest, body: violation{
		Code: 3, Name: "primary key violation", Message: "primary key violation on key '" + luaKey("id", id) + "'",
		Fields: map[string]string{"id": id},
	}}}
}

func nameTaken(name string) *refusal {
	return &refusal{answer{status: http.StatusConflict, body: violation{
		Code: 5, Name: "unique constraint violation", Message: "UNIQUE violation detected on '" + luaKey("name", name) + "'",
		Fields: map[string]string{"name": name},
	}}}
}

func targetTaken(t hook.Target) *refusal {
	type ref struct {
		ID string `json:"id"`
	}
	return &refusal{answer{status: http.StatusConflict, body: violation{
		Code: 5, Name: "unique constraint violation",
		Message: fmt.Sprintf("UNIQUE violation detected on '{target=%s,upstream={id=%s}}'", strconv.Quote(t.Target), strconv.Quote(t.UpstreamID)),
		Fields:  map[string]any{"target": t.Target, "upstream": ref{t.UpstreamID}},
	}}}
}

// noEntity is Kong's 404 of a change: an entity by its primary key, or by
// another field.
func noEntity(field, value string) *refusal {
	by := "primary key "
	if field != "id" {
		by = ""
	}
	return &refusal{answer{status: http.StatusNotFound, body: violation{
		Code: 6, Name: "not found", Message: "could not find the entity with " + by + "'" + luaKey(field, value) + "'",
		Fields: map[string]string{field: value},
	}}}
}

func invalidSize(fault string) *refusal {
	return &refusal{answer{status: http.StatusBadRequest, body: violation{Code: 9, Name: "invalid size", Message: fault}}}
}

func invalidOffset(offset, fault string) *refusal {
	return &refusal{answer{status: http.StatusBadRequest, body: violation{
		Code: 7, Name: "invalid offset", Message: fmt.Sprintf("'%s' is not a valid offset: %s", offset, fault),
	}}}
}

func invalidOption(name, fault string) *refusal {
	return &refusal{answer{status: http.StatusBadRequest, body: violation{
		Code: 11, Name: "invalid options", Message: fmt.Sprintf("invalid option (%s: %s)", name, fault),
		Options: map[string]string{name: fault},
	}}}
}

func luaKey(name, value string) string { return "{" + name + "=" + strconv.Quote(value) + "}" }

// refuse makes an answer of an error: the one place that knows which is which.
// The client of a 500 learns nothing, the log everything.
func (s *Service) refuse(ctx context.Context, c *call, err error) *answer {
	if r, ok := errors.AsType[*refusal](err); ok {
		return &r.answer
	}
	if f, ok := errors.AsType[*schema.Faults](err); ok {
		return &answer{status: http.StatusBadRequest, body: violation{
			Code: 2, Name: "schema violation", Message: f.Error(), Fields: f,
		}}
	}
	switch {
	case errors.Is(err, auth.ErrUnauthorized):
		return refuse(http.StatusUnauthorized, "Unauthorized").with("WWW-Authenticate", "Bearer")
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		s.o.Log.WarnContext(ctx, "request ran out of time", "method", c.Method, "route", c.pattern, "err", err)
		return &refuse(http.StatusServiceUnavailable, "out of time; try again").answer
	case errors.Is(err, hook.ErrBusy):
		s.o.Log.WarnContext(ctx, "request refused: busy", "method", c.Method, "route", c.pattern)
		return refuse(http.StatusServiceUnavailable, "too many writers at once, nothing was written; try again").with("Retry-After", "1")
	}
	s.o.Log.LogAttrs(ctx, slog.LevelError, "request failed",
		slog.String("method", c.Method), slog.String("route", c.pattern), slog.Any("err", err))
	return &refuse(http.StatusInternalServerError, "An unexpected error occurred").answer
}
