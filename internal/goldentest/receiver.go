package goldentest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
)

// receiver is where the hooks of a conversation lead to.
type receiver struct {
	*httptest.Server

	mu      sync.Mutex
	arrived []arrival
	replies []reply
}

// arrival is a request that the receiver got.
type arrival struct {
	method string
	path   string // and query
	header http.Header
	body   []byte
}

// reply is what the receiver answers.
type reply struct {
	status int
	header map[string]string
	body   string
}

func newReceiver() *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // it did not arrive
		}
		r.mu.Lock()
		a := reply{status: http.StatusOK}
		if len(r.replies) > 0 {
			a, r.replies = r.replies[0], r.replies[1:]
		}
		r.arrived = append(r.arrived, arrival{req.Method, req.URL.RequestURI(), req.Header, body})
		r.mu.Unlock()
		for name, value := range a.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body) // who asked may have gone
	}))
	return r
}

// answer is how the next request without one is answered.
func (r *receiver) answer(a reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replies = append(r.replies, a)
}

// next takes the first request for the path out of those that arrived.
func (r *receiver) next(path string) (arrival, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.arrived, func(a arrival) bool { return a.path == path })
	if i < 0 {
		return arrival{}, false
	}
	a := r.arrived[i]
	r.arrived = slices.Delete(r.arrived, i, i+1)
	return a, true
}

// left says what nobody asked for; "" for nothing.
func (r *receiver) left() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var told []string
	for _, a := range r.arrived {
		told = append(told, fmt.Sprintf("the receiver got %s %s %s, which no section tells of", a.method, a.path, a.body))
	}
	if n := len(r.replies); n > 0 {
		told = append(told, fmt.Sprintf("%d answers of the receiver were not asked for", n))
	}
	return strings.Join(told, "; ")
}
