package goldentest_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/goldentest"
)

// server is what the conversations here are held with: it answers with what
// it was sent, or does what the path says.
//
//	/echo   200, the method and headers of the request as headers, its body
//	/send   posts its body to the URL in the query, answers with the answer
//	/count  200 {"n": how often it was asked}
func server(t *testing.T) goldentest.Server {
	asked := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, values := range r.Header {
			w.Header().Set("Got-"+name, values[0])
		}
		w.Header().Set("Method", r.Method)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/send", func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Post(r.URL.Query().Get("to"), "text/plain", r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})
	mux.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprintf(w, `{"n": %d}`, asked)
	})
	return goldentest.Server{
		Do:       goldentest.Handler(mux),
		Vars:     map[string]string{"admin_token": "secret-of-admin", "read_token": "secret-of-read", "id": "7"},
		Patience: 100 * time.Millisecond,
	}
}

const echoed = "-- POST /echo --\n\n%s\n-- want 200 --\n\n%s\n"

func TestPlay_whatIsSaid(t *testing.T) {
	const id, other = "937df175-3db2-4e6d-8aa1-d95c94a76089", "c57340ab-9fed-40fd-bb7e-1cef8d37c2df"
	tests := []struct{ name, answer, want string }{
		{"an object, in any order", `{"a": 1, "b": [true, null, "x"]}`, `{"b": [true, null, "x"], "a": 1}`},
		{"a number, written otherwise", `{"n": 1.50, "e": 1e3}`, `{"n": 1.5, "e": 1000}`},
		{"a large number, to the last digit", `{"n": 12345678901234567890}`, `{"n": 12345678901234567890}`},
		{"an open object", `{"a": 1, "b": 2}`, `{"b": 2, "...": 0}`},
		{"an open array", `[1, 2, 3]`, `[1, "..."]`},
		{"anything", `{"a": {"b": []}}`, `{"a": "<any>"}`},
		{
			"kinds", `{"u": "` + id + `", "i": 5, "t": " ", "w": "2026-11-21T18:00:00.123Z", "e": "\"12\"", "o": "WzFd"}`,
			`{"u": "<uuid>", "i": "<int>", "t": "<text>", "w": "<time>", "e": "<etag>", "o": "<offset>"}`,
		},
		{"kinds within a text", `{"u": "` + id + `_` + other + `"}`, `{"u": "<uuid x>_<uuid y>"}`},
		{"a text", `plain, not JSON`, `plain, not JSON`},
		{"a text with a kind in it", `id ` + id + ` it is`, `id <uuid> it is`},
		{"a variable from outside", `{"id": "7"}`, `{"id": "${id}"}`},
		{"comments in between", "{\"a\":\n# no line of it\n1}", "{\"a\":\n# nor of this\n1}"},
		{"nothing in particular", `{"a": 1}`, ``},
		{"what looks like a placeholder and is none", `{"a": "<b>"}`, `{"a": "<b>"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := goldentest.Play(t.Context(), "case", fmt.Sprintf(echoed, tt.answer, tt.want), server(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A player that finds nothing wrong is worse than none.
func TestPlay_whatIsNotWanted(t *testing.T) {
	tests := []struct{ name, answer, want, told string }{
		{"another value", `{"a": "x"}`, `{"a": "y"}`, `.a = "x"; want "y"`},
		{"another type", `{"a": "1"}`, `{"a": 1}`, `.a = "1"; want 1`},
		{"null", `{"a": null}`, `{"a": false}`, `.a = null; want false`},
		{"a member is missing", `{"a": 1}`, `{"a": 1, "b": 2}`, `.b is missing`},
		{"a member is missing in an open object", `{"a": 1}`, `{"b": 2, "...": 0}`, `.b is missing`},
		{"a member that is null is not missing, nor the other way round", `{}`, `{"b": null}`, `.b is missing`},
		{"a member too many", `{"a": 1, "b": 2}`, `{"a": 1}`, `.b is not wanted`},
		{"a member too many, further down", `{"a": {"b": [{"c": 1}]}}`, `{"a": {"b": [{}]}}`, `.a.b[0].c is not wanted`},
		{"an element too many", `{"a": [1, 2]}`, `{"a": [1]}`, `.a = [1,2]; want [1]`},
		{"an element too few", `{"a": [1]}`, `{"a": [1, 2]}`, `.a = [1]; want [1,2]`},
		{"an open array is too short", `[1]`, `[1, 2, "..."]`, `body = [1]`},
		{"an array in another order", `{"a": [1, 2]}`, `{"a": [2, 1]}`, `.a[0] = 1; want 2`},
		{"an object for an array", `{"a": {}}`, `{"a": []}`, `.a = {}; want []`},
		{"an array for an object", `{"a": []}`, `{"a": {"...": 0}}`, `.a = []; want {`},
		{"the last digit", `{"n": 12345678901234567891}`, `{"n": 12345678901234567890}`, `.n = 12345678901234567891`},
		{"no UUID", `{"a": "937DF175-3DB2-4E6D-8AA1-D95C94A76089"}`, `{"a": "<uuid>"}`, `want "<uuid>"`},
		{"a UUID and more", `{"a": "937df175-3db2-4e6d-8aa1-d95c94a76089x"}`, `{"a": "<uuid>"}`, `want "<uuid>"`},
		{"no whole number", `{"a": 1.5}`, `{"a": "<int>"}`, `want "<int>"`},
		{"a number as a text", `{"a": "1"}`, `{"a": "<int>"}`, `want "<int>"`},
		{"an empty text", `{"a": ""}`, `{"a": "<text>"}`, `want "<text>"`},
		{"no text", `{"a": 1}`, `{"a": "<text>"}`, `want "<text>"`},
		{"no time", `{"a": "2026-11-21 18:00:00"}`, `{"a": "<time>"}`, `want "<time>"`},
		{"a part of a text", `{"a": "x-1"}`, `{"a": "<uuid>-1"}`, `want "<uuid>-1"`},
		{"a placeholder that is a part and can be none", `{"a": "n 1"}`, `{"a": "n <int>"}`, `want "n <int>"`},
		{"what comes before a placeholder", `{"a": "xx_937df175-3db2-4e6d-8aa1-d95c94a76089"}`, `{"a": "x_<uuid>"}`, `want "x_<uuid>"`},
		{"what follows a placeholder", `{"a": "ab"}`, `{"a": "<text>."}`, `want "<text>."`},
		{"no JSON", `oops`, `{"a": 1}`, `is no JSON`},
		{"JSON and more", `{"a": 1} {}`, `{"a": 1}`, `something follows`},
		{"another text", `x`, `y`, `body = "x"; want "y"`},
		{"JSON for a text", `{"a": 1}`, `a`, `want "a"`},
		{"nothing for something", ``, `{}`, `is no JSON`},
		{"what is wanted is broken", `{"a": 1}`, `{"a": 1`, `what is wanted is no JSON`},
		{"a variable that has no value", `{}`, `{"a": "${nobody}"}`, `${nobody} has no value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fails(t, fmt.Sprintf(echoed, tt.answer, tt.want), tt.told)
		})
	}
	t.Run("another status", func(t *testing.T) {
		fails(t, "-- GET /echo --\n-- want 201 --\n", "case:1: GET /echo = 200; want 201")
	})
	t.Run("a header that is missing", func(t *testing.T) {
		fails(t, "-- GET /echo --\n-- want 200 --\nETag: <etag>\n", "ETag is missing")
	})
	t.Run("another header", func(t *testing.T) {
		fails(t, "-- GET /echo --\n-- want 200 --\nMethod: POST\n", `Method = "GET"; want "POST"`)
	})
	t.Run("a header that should not be there", func(t *testing.T) {
		fails(t, "-- GET /echo --\n-- want 200 --\nMethod:\n", `Method = ["GET"]; want none`)
	})
	t.Run("a body that a 204 has", func(t *testing.T) {
		s := server(t)
		s.Do = func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: io.NopCloser(strings.NewReader("x"))}, nil
		}
		failsWith(t, s, "-- DELETE /echo --\n-- want 204 --\n", "204 with a body: x")
	})
	t.Run("a server that is not there", func(t *testing.T) {
		s := server(t)
		s.Do = func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
		failsWith(t, s, "-- GET /echo --\n-- want 200 --\n", "case:1: unexpected EOF")
	})
	t.Run("every difference is told, up to another status", func(t *testing.T) {
		err := goldentest.Play(t.Context(), "case", `
-- GET /count --
-- want 200 --

{"n": 5}
-- GET /count --
-- want 200 --
X: y

{"n": 6, "m": 7}
-- GET /nowhere --
-- want 200 --
-- GET /count --
-- want 200 --

{"n": 8}
`, server(t))
		want := []string{"case:2: ", ".n = 1; want 5", "case:6: ", "X is missing", ".m is missing", ".n = 2; want 6", "case:11: GET /nowhere = 404; want 200"}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("error = %v; want %q in it", err, w)
			}
		}
		if err != nil && strings.Contains(err.Error(), "want 8") {
			t.Errorf("error = %v; want no further request after a wrong status", err)
		}
	})
}

// fails wants that the conversation is told to go wrong, and how.
func fails(t *testing.T, text, told string) {
	t.Helper()
	failsWith(t, server(t), text, told)
}

func failsWith(t *testing.T, s goldentest.Server, text, told string) {
	t.Helper()
	err := goldentest.Play(t.Context(), "case", text, s)
	if err == nil || !strings.Contains(err.Error(), told) {
		t.Errorf("error = %v; want %q in it", err, told)
	}
}

func TestPlay_whatIsSent(t *testing.T) {
	tests := []struct{ name, text string }{
		{"is JSON, as admin", "-- POST /echo --\n\n{}\n-- want 200 --\nGot-Content-Type: application/json\nGot-Authorization: Bearer secret-of-admin\n\n{}"},
		{"has no type without a body", "-- POST /echo --\n-- want 200 --\nGot-Content-Type:\n"},
		{"has the token that is named", "-- GET /echo --\nToken: read\n-- want 200 --\nGot-Authorization: Bearer secret-of-read\n"},
		{"has no token", "-- GET /echo --\nToken: none\n-- want 200 --\nGot-Authorization:\n"},
		{"has its token elsewhere", "-- GET /echo --\nToken: none\nKong-Admin-Token: ${read_token}\n-- want 200 --\nGot-Authorization:\nGot-Kong-Admin-Token: secret-of-read\n"},
		{"has no header without a value", "-- POST /echo --\nContent-Type:\n\n{}\n-- want 200 --\nGot-Content-Type:\n"},
		{"is repeated", "-- POST /echo --\n\n|3 ab\n-- want 200 --\n\nababab"},
		{"is a form", "-- POST /echo --\nContent-Type: application/x-www-form-urlencoded\n\na=1\nb=${id}\n-- want 200 --\n\na=1&b=7"},
		{"is multipart", "-- POST /echo --\nContent-Type: multipart/form-data; boundary=x\n\n--x\n\n1\n--x--\n-- want 200 --\n\n--x\r\n\r\n1\r\n--x--"},
		{"goes to a path with a variable", "-- GET /echo?${id} --\n-- want 200 --\n-- PATCH /echo?x=${id}&y --\n-- want 200 --\nMethod: PATCH\n"},
		{"keeps what was answered", "-- POST /echo --\n\n{\"a\": \"x\", \"n\": 5}\n-- want 200 --\nMethod: <text m>\n\n{\"a\": \"<text a>\", \"n\": \"<int n>\"}\n" +
			"-- POST /echo --\n\n{\"a\": \"${a}${n}${m}\"}\n-- want 200 --\n\n{\"a\": \"x5POST\"}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := goldentest.Play(t.Context(), "case", tt.text, server(t)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a token that there is not is a mistake", func(t *testing.T) {
		fails(t, "-- GET /echo --\nToken: raed\n-- want 200 --\n", "${raed_token} has no value")
	})
	t.Run("a repetition without a number is a mistake", func(t *testing.T) {
		fails(t, "-- POST /echo --\n\n|x y\n-- want 200 --\n", "|times text")
	})
	t.Run("every answer is heard of", func(t *testing.T) {
		s := server(t)
		var heard []string
		s.Answered = func(method, path string, status int, body []byte) {
			heard = append(heard, fmt.Sprintf("%s %s %d %s", method, path, status, body))
		}
		err := goldentest.Play(t.Context(), "case", "-- GET /count?${id} --\n-- want 200 --\n-- PUT /no --\n-- want 404 --\n", s)
		if want := []string{`GET /count?7 200 {"n": 1}`, "PUT /no 404 404 page not found\n"}; err != nil || !slices.Equal(heard, want) {
			t.Errorf("heard of %q, %v; want %q", heard, err, want)
		}
	})
}

func TestPlay_soon(t *testing.T) {
	t.Run("asks until the answer is what is wanted", func(t *testing.T) {
		s, worked := server(t), 0
		s.Work = func() { worked++ }
		if err := goldentest.Play(t.Context(), "case", "-- GET /count --\n-- want 200 soon --\n\n{\"n\": 3}\n", s); err != nil || worked != 3 {
			t.Errorf("error = %v after Work was called %d times; want none after 3", err, worked)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		fails(t, "-- GET /count --\n-- want 200 soon --\n\n{\"m\": 0}\n", "waited 100ms: GET /count:\n\t.m is missing")
	})
}

func TestPlay_receiver(t *testing.T) {
	const send = "-- POST /send?to=${receiver}/hook --\n\n{\"a\": 1}\n-- want 200 --\n"
	good := []struct{ name, text string }{
		{"tells what arrived", send + "-- received POST /hook --\nContent-Type: text/plain\nX-None:\n\n{\"a\": 1}\n"},
		{"answers as it is told, once", `
-- receiver answers 503 --
Content-Type: text/x

try later
-- POST /send?to=${receiver}/hook --
-- want 503 --
Content-Type: text/x

try later
-- received POST /hook --
` + send + "-- received POST /hook --\n"},
		{"keeps the paths apart, and the order of each", `
-- POST /send?to=${receiver}/a --

1
-- want 200 --
-- POST /send?to=${receiver}/b --

2
-- want 200 --
-- POST /send?to=${receiver}/a --

3
-- want 200 --
-- received POST /b --

2
-- received POST /a --

1
-- received POST /a --

3
`},
	}
	for _, tt := range good {
		t.Run(tt.name, func(t *testing.T) {
			if err := goldentest.Play(t.Context(), "case", tt.text, server(t)); err != nil {
				t.Error(err)
			}
		})
	}
	bad := []struct{ name, text, told string }{
		{"nothing arrived", send + "-- received POST /hook --\n-- received POST /hook --\n", "case:6: waited 100ms: nothing arrived at /hook"},
		{"it arrived elsewhere", send + "-- received POST /other --\n", "the receiver got POST /hook {\"a\": 1}"},
		{"it was another method", send + "-- received PUT /hook --\n", "received POST /hook; want PUT"},
		{"it was another body", send + "-- received POST /hook --\n\n{\"a\": 2}\n", ".a = 1; want 2"},
		{"it was another header", send + "-- received POST /hook --\nX-Key: k\n", "X-Key is missing"},
		{"it was not signed", send + "-- received POST /hook --\nContent-Type: <hmac-sha256 k>\n", "want \"sha256="},
		{"one more arrived", send, "case: at the end: the receiver got POST /hook"},
		{"an answer is left", send + "-- received POST /hook --\n-- receiver answers 200 --\n", "1 answers of the receiver were not asked for"},
		{"nobody was told of it", "-- received POST /hook --\n", "nobody was told of ${receiver}"},
		{"nobody was told of it, and it should answer", "-- receiver answers 200 --\n", "nobody was told of ${receiver}"},
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) { fails(t, tt.text, tt.told) })
	}
	t.Run("a signature is that of what arrived", func(t *testing.T) {
		const body = `{"event":"health","health":"unhealthy","hostname":"web1.mycompany.net","ip":"10.16.0.2","port":3000,"source":"balancer","upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7"}`
		sent := http.Header{
			"Kong":  {"sha256=d530550c11dfdd3e47ac2e7364581e02d6a265e7b076021b5b6041754286ab88"},
			"Kong1": {"sha1=5d9ca08c9411261a74600a61f44b2b2ceb2838f2"},
			// of "msg_1.1795284000." and the body, under topsecret2 and topsecret
			"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {"1795284000"},
			"Both": {"v1,QoGJZgmurygnAL+qNHz5Tg/o7rhAYW/SoGHjxcaEawg= v1,2VsbtLjJKzr2d8ETn70hQbbMCq0/L4KGOdsr74JkIn0="},
		}
		s := server(t)
		s.Do = func(r *http.Request) (*http.Response, error) {
			out, err := http.NewRequestWithContext(r.Context(), "POST", r.URL.Query().Get("to"), r.Body)
			if err != nil {
				return nil, err
			}
			out.Header = sent
			return http.DefaultClient.Do(out)
		}
		text := "-- POST /send?to=${receiver}/hook --\n\n" + body + "\n-- want 200 --\n-- received POST /hook --\n"
		for _, wanted := range []string{"Kong: <hmac-sha256 topsecret>", "Kong1: <hmac-sha1 topsecret>", "Both: <v1 whsec_dG9wc2VjcmV0Mg==> <v1 topsecret>"} {
			if err := goldentest.Play(t.Context(), "case", text+wanted+"\n", s); err != nil {
				t.Error(err)
			}
		}
		for _, other := range []string{
			"Kong: <hmac-sha256 other>", "Kong1: <hmac-sha1 other>", "Kong: <hmac-sha1 topsecret>", "Both: <v1 whsec_dG9wc2VjcmV0Mg==>",
			"Both: <v1 topsecret> <v1 whsec_dG9wc2VjcmV0Mg==>", "Both: <v1 whsec_dG9wc2VjcmV0> <v1 topsecret>", "Both: <v1 whsec_?>",
		} {
			failsWith(t, s, text+other+"\n", `; want "`)
		}
	})
}

func TestPlay_whatCannotBeRead(t *testing.T) {
	tests := []struct{ name, text, told string }{
		{"nothing", "", "case:1: nothing is said"},
		{"comments only", "# a\n\n# b\n", "case:1: nothing is said"},
		{"text before the first section", "hello\n-- GET /echo --\n-- want 200 --\n", "case:1: before the first section: hello"},
		{"a request that wants no answer", "-- GET /echo --\n-- GET /echo --\n-- want 200 --\n", "case:2: the request before wants no answer"},
		{"a last request that wants no answer", "-- GET /echo --\n", "case:1: the last request wants no answer"},
		{"an answer without a request", "-- want 200 --\n", "case:1: no request stands before"},
		{"two answers", "-- GET /echo --\n-- want 200 --\n-- want 200 --\n", "case:3: no request stands before"},
		{"an answer to what is received", "-- received POST /x --\n-- want 200 --\n", "case:2: no request stands before"},
		{"a headline that does not end", "-- GET /echo --\n-- want 200\n", "case:2: a section is -- what --"},
		{"a section of another name", "-- GET /echo --\n-- wants 200 --\n", "case:2: the request before wants no answer"},
		{"a section of another name, after an answer", "-- GET /echo --\n-- want 200 --\n-- expect nothing --\n", "case:3: no section is called that"},
		{"a status that is no number", "-- GET /echo --\n-- want ok --\n", "case:2: "},
		{"a path that is none", "-- GET echo --\n-- want 200 --\n", "case:1: no section is called that"},
		{"a body where headers are", "-- GET /echo --\n-- want 200 --\n{\"a\": 1}\n", "case:3: neither a header nor an empty line"},
		{"text where headers are", "-- GET /echo --\nhello\n-- want 200 --\n", "case:2: neither a header nor an empty line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { fails(t, tt.text, tt.told) })
	}
}

func TestRun_playsEveryFileToAServerOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.txt", "b.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("-- GET /count --\n-- want 200 --\n\n{\"n\": 1}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var played []string
	goldentest.Run(t, filepath.Join(dir, "*.txt"), func(t *testing.T) goldentest.Server {
		played = append(played, t.Name())
		return server(t)
	})
	if want := []string{t.Name() + "/a", t.Name() + "/b"}; !slices.Equal(played, want) {
		t.Errorf("played %q; want %q", played, want)
	}
}
