package kongimport_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/kongimport"
	"eventhooks/internal/local"
)

type object = map[string]any

// kong stands in for Kong's Admin API: lists with its paging, tags and errors.
type kong struct {
	*httptest.Server
	mu        sync.Mutex
	upstreams []object
	targets   map[string][]object // by upstream
	size      int                 // the most rows of a page
	token     string              // "" asks for none
	workspace string              // the only one beside the default, which is empty then
	instead   func(w http.ResponseWriter, r *http.Request) bool
}

func newKong(t *testing.T, upstreams ...object) *kong {
	k := &kong{upstreams: upstreams, targets: map[string][]object{}, size: 2}
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k
}

// change is for what changes in Kong while a test runs.
func (k *kong) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// answer sets what answers requests in Kong's place when it returns true; nil
// is nothing.
func (k *kong) answer(f func(w http.ResponseWriter, r *http.Request) bool) {
	k.change(func() { k.instead = f })
}

func (k *kong) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.instead != nil && k.instead(w, r) {
		return
	}
	path := r.URL.Path
	if k.workspace != "" {
		var there bool
		if path, there = strings.CutPrefix(path, "/"+k.workspace); !there {
			say(w, 404, `{"message":"Not found"}`)
			return
		}
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case k.token != "" && r.Header.Get("Kong-Admin-Token") != k.token:
		say(w, 401, `{"message":"Invalid RBAC credentials"}`)
	case r.Method != http.MethodGet:
		say(w, 405, `{"message":"Method not allowed"}`)
	case path == "/upstreams":
		k.page(w, r, k.upstreams)
	case len(parts) == 3 && parts[0] == "upstreams" && parts[2] == "targets" && slices.ContainsFunc(k.upstreams, func(u object) bool { return u["id"] == parts[1] }):
		k.page(w, r, k.targets[parts[1]])
	default:
		say(w, 404, `{"message":"Not found"}`)
	}
}

func (k *kong) page(w http.ResponseWriter, r *http.Request, rows []object) {
	q := r.URL.Query()
	if tags := q.Get("tags"); tags != "" {
		rows = slices.DeleteFunc(slices.Clone(rows), func(row object) bool {
			has := func(tag string) bool {
				list, _ := row["tags"].([]any)
				return slices.Contains(list, any(tag))
			}
			if either := strings.Split(tags, "/"); len(either) > 1 {
				return !slices.ContainsFunc(either, has)
			}
			return slices.ContainsFunc(strings.Split(tags, ","), func(tag string) bool { return !has(tag) })
		})
	}
	from := 0
	if offset := q.Get("offset"); offset != "" {
		raw, err := base64.StdEncoding.DecodeString(offset)
		var list []int
		if err != nil || json.Unmarshal(raw, &list) != nil {
			say(w, 400, `{"code":7,"name":"invalid offset","message":"'x' is not a valid offset: bad base64 encoding"}`)
			return
		}
		from = list[0]
	}
	size, err := strconv.Atoi(q.Get("size"))
	if err != nil || size < 1 || size > 1000 {
		say(w, 400, `{"code":9,"name":"invalid size","message":"size must be an integer between 1 and 1000"}`)
		return
	}
	to := min(from+min(size, k.size), len(rows))
	answer := object{"data": append([]object{}, rows[from:to]...), "next": nil}
	if to < len(rows) {
		offset := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "[%d]", to))
		answer["offset"] = offset
		answer["next"] = r.URL.Path + "?offset=" + url.QueryEscape(offset)
	}
	b, _ := json.Marshal(answer)
	say(w, 200, string(b))
}

func say(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// id returns the n-th id, a UUID.
func id(n int) string { return fmt.Sprintf("58c8ccbb-eafb-4566-991f-%012d", n) }

// kongUpstream is the row of an upstream of which only the name was said; each
// of edits is a path with dots and its value as JSON.
func kongUpstream(n int, name string, edits ...string) object {
	row := parse(`{
		"created_at": 1422386534, "updated_at": 1422386534, "algorithm": "round-robin", "slots": 10000,
		"hash_on": "none", "hash_fallback": "none", "hash_on_header": null, "hash_fallback_header": null,
		"hash_on_cookie": null, "hash_on_cookie_path": "/", "hash_on_query_arg": null, "hash_fallback_query_arg": null,
		"hash_on_uri_capture": null, "hash_fallback_uri_capture": null,
		"sticky_sessions_cookie": null, "sticky_sessions_cookie_path": "/",
		"host_header": null, "client_certificate": null, "use_srv_name": false, "tags": null,
		"healthchecks": {
			"threshold": 0,
			"active": {
				"type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_verify_certificate": true,
				"https_sni": null, "headers": null,
				"healthy": {"interval": 0, "http_statuses": [200, 302], "successes": 0},
				"unhealthy": {"interval": 0, "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
					"tcp_failures": 0, "timeouts": 0, "http_failures": 0}
			},
			"passive": {
				"type": "http",
				"healthy": {"http_statuses": [200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308], "successes": 0},
				"unhealthy": {"http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0, "http_failures": 0}
			}
		}
	}`)
	row["id"], row["name"] = id(n), name
	for i := 0; i < len(edits); i += 2 {
		edit(row, edits[i], edits[i+1])
	}
	return row
}

func edit(row object, path, value string) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		row = row[name].(object)
	}
	row[names[len(names)-1]] = parse(`{"v":` + value + `}`)["v"]
}

func kongTarget(n int, address string, weight int) object {
	return object{
		"id": id(n), "created_at": 1422386534.123, "updated_at": 1422386534.123, "upstream": object{"id": "x"},
		"target": address, "weight": float64(weight), "tags": nil,
	}
}

func parse(doc string) object {
	var o object
	if err := json.Unmarshal([]byte(doc), &o); err != nil {
		panic(err)
	}
	return o
}

// eventHooks is the whole system, behind a proxy that notes what is asked of it.
type eventHooks struct {
	*httptest.Server
	token   string
	mu      sync.Mutex
	puts    []string // "path body"
	instead func(w http.ResponseWriter, r *http.Request) bool
}

// answer sets what answers requests in its place when it returns true; nil is
// nothing.
func (eh *eventHooks) answer(f func(w http.ResponseWriter, r *http.Request) bool) {
	eh.mu.Lock()
	defer eh.mu.Unlock()
	eh.instead = f
}

func newEventHooks(t *testing.T) *eventHooks {
	t.Helper()
	s, err := local.Start(t.Context(), local.Options{
		Addr: "127.0.0.1:0", Dir: t.TempDir(), Token: "token-of-event-hooks", ProbeEvery: time.Hour,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	eh := &eventHooks{token: s.Token()}
	proxy := httputil.NewSingleHostReverseProxy(u)
	eh.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		eh.mu.Lock()
		instead := eh.instead
		if r.Method != http.MethodGet {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			eh.puts = append(eh.puts, r.URL.Path+" "+string(body))
		}
		eh.mu.Unlock()
		if instead == nil || !instead(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(eh.Close)
	return eh
}

// written returns what was written since it was asked last.
func (eh *eventHooks) written() []string {
	eh.mu.Lock()
	defer eh.mu.Unlock()
	defer func() { eh.puts = nil }()
	return eh.puts
}

// call is what somebody else does here.
func (eh *eventHooks) call(t *testing.T, method, path, body string, want int) object {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, eh.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+eh.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s = %d %s, %v; want %d", method, path, resp.StatusCode, b, err, want)
	}
	if len(b) == 0 {
		return nil
	}
	return parse(string(b))
}

// at returns a value of an upstream here: a path with dots.
func (eh *eventHooks) at(t *testing.T, upstream, path string) any {
	t.Helper()
	var v any = eh.call(t, "GET", "/upstreams/"+upstream, "", 200)
	for name := range strings.SplitSeq(path, ".") {
		v = v.(object)[name]
	}
	return v
}

// addresses returns "address weight id" of an upstream's targets here, sorted.
func (eh *eventHooks) addresses(t *testing.T, upstream string) []string {
	t.Helper()
	var list []string
	for _, row := range eh.call(t, "GET", "/upstreams/"+upstream+"/targets?size=1000", "", 200)["data"].([]any) {
		row := row.(object)
		list = append(list, fmt.Sprint(row["target"], " ", row["weight"], " ", row["id"]))
	}
	slices.Sort(list)
	return list
}

// run imports and returns what was printed.
func run(t *testing.T, k *kong, eh *eventHooks, more ...func(*kongimport.Options)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o := kongimport.Options{
		Kong: k.URL, URL: eh.URL, Token: hook.NewSecret(eh.token), Out: &out,
		Wait: func(context.Context, time.Duration) error { panic("nobody answered later") },
	}
	for _, f := range more {
		f(&o)
	}
	err := kongimport.Run(t.Context(), o)
	return out.String(), err
}

func dry(o *kongimport.Options)   { o.DryRun = true }
func exact(o *kongimport.Options) { o.Exact = true }

// done is what a plan prints when it is carried out.
func done(plan string) string {
	plan = regexp.MustCompile(`(?m)^(create|update) ( +)`).ReplaceAllString(plan, "${1}d$2")
	plan = regexp.MustCompile(`(\d) to (create|update)`).ReplaceAllString(plan, "$1 ${2}d")
	return strings.Replace(plan, "dry run, nothing was written; it would be: ", "", 1)
}

// hasLines fails unless the output's lines are those, in that order: each want
// is what a line begins with.
func hasLines(t *testing.T, out string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	ok := len(lines) == len(want)
	for i := range min(len(lines), len(want)) {
		ok = ok && strings.HasPrefix(lines[i], want[i])
	}
	if !ok {
		t.Errorf("printed:\n%swant lines that begin with:\n%s", out, strings.Join(want, "\n"))
	}
}
