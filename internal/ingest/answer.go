package ingest

import (
	"errors"
	"net/http"
	"strconv"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// problem is an answer other than 202.
type problem struct {
	status int
	cause  error // for the log; the client learns nothing of it

	Message string           `json:"message"`
	Index   *int             `json:"index,omitempty"`  // of the event at fault
	Fields  hook.FieldErrors `json:"fields,omitempty"` // of that event; "@entity" is the event itself
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Message
}

func (p *problem) Unwrap() error { return p.cause }

// unavailable is the answer when a store or the queue did not do its part:
// nothing is known to be lost, and the client should try again.
func unavailable(cause error) *problem {
	return &problem{
		status: http.StatusServiceUnavailable, cause: cause,
		Message: "the events were not taken: try again, with the same Idempotency-Key if there was one",
	}
}

// fail answers a request that was not taken. Only here errors become statuses.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{status: http.StatusInternalServerError, cause: err, Message: "An unexpected error occurred"}
	}
	if p.status >= http.StatusInternalServerError {
		s.log().ErrorContext(r.Context(), "events not taken", "status", p.status, "err", p.cause)
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	body, err := strictjson.Encode(p)
	if err != nil {
		body = []byte(`{"message":"An unexpected error occurred"}`)
	}
	write(w, p.status, body)
}

func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone learns nothing; its events are where they are
}
