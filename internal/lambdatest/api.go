package lambdatest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// maxPayload is the size of the largest event that Lambda takes to invoke a
// function asynchronously, in bytes.
const maxPayload = 1 << 20

// API stands in for Lambda's own API as functions meet it that invoke functions
// asynchronously: an http.Handler that takes the event, answers 202, and hands
// it to the function. A failed invocation is not tried again: no function here
// asks for that.
type API struct {
	function func(name string) *Function
	pending  sync.WaitGroup

	mu   sync.Mutex
	done []Invocation
}

// Invocation is one that was asked for, and what became of it.
type Invocation struct {
	Function string
	Payload  string
	Err      error // as of Function.Invoke
}

// NewAPI returns an API to the functions that function knows; it returns nil for
// the name of no function. The test ends no sooner than what was invoked.
func NewAPI(t testing.TB, function func(name string) *Function) *API {
	t.Helper()
	a := &API{function: function}
	t.Cleanup(a.pending.Wait)
	return a
}

// Wait returns what was invoked so far, in the order in which it ended, once all
// of it has.
func (a *API) Wait() []Invocation {
	a.pending.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.done)
}

// ServeHTTP answers one request as Lambda does.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(code int, kind string) {
		w.Header().Set("X-Amzn-Errortype", kind)
		w.WriteHeader(code)
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/2015-03-31/functions/")
	name, invocations := strings.CutSuffix(name, "/invocations")
	if !ok || !invocations || r.Method != http.MethodPost {
		refuse(http.StatusNotFound, "UnknownOperationException")
		return
	}
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 ") || !strings.Contains(auth, "/lambda/aws4_request") {
		refuse(http.StatusForbidden, "MissingAuthenticationTokenException")
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	f := a.function(name)
	switch {
	case err != nil:
		refuse(http.StatusRequestEntityTooLarge, "RequestTooLargeException")
	case f == nil:
		refuse(http.StatusNotFound, "ResourceNotFoundException")
	case !json.Valid(payload):
		refuse(http.StatusBadRequest, "InvalidRequestContentException")
	case r.Header.Get("X-Amz-Invocation-Type") != "Event":
		refuse(http.StatusBadRequest, "InvalidParameterValueException") // nobody here waits for an answer
	default:
		a.pending.Go(func() {
			_, err := f.Invoke(context.WithoutCancel(r.Context()), payload)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.done = append(a.done, Invocation{name, string(payload), err})
		})
		w.WriteHeader(http.StatusAccepted)
	}
}
