package admin_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// multi returns a multipart body and its content type.
func multi(t testing.TB, parts ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		if err := w.WriteField(parts[i], parts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// TestBodies: whatever is wrong with a body, and wherever it is sent, the
// answer is of the caller's fault, says what would be right, and changes
// nothing.
func TestBodies(t *testing.T) {
	s := newServer(t)
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	before := s.do("GET", "/event-hooks/"+id, "")
	row := s.row(id, 0, nil)
	s.must(201, "POST", "/upstreams", `{"name":"web"}`)
	s.must(201, "POST", "/upstreams/web/targets", `{"target":"x"}`)
	routes := []string{
		"POST /event-hooks", "PATCH /event-hooks/" + id, "PUT /event-hooks/" + id, "POST /event-hooks/" + id + "/test",
		"POST /event-hooks/render", "POST /event-hooks/" + id + "/redeliver", "POST " + redeliverPath(row), "POST /event-hooks/" + id + "/secret/rotate",
		"PUT /event-hooks/sources/a/b", "POST /upstreams", "PATCH /upstreams/web", "PUT /upstreams/web",
		"POST /upstreams/web/targets", "PATCH /upstreams/web/targets/x", "PUT /upstreams/web/targets/x", "POST /tokens",
	}
	many := make([]string, 0, 2*1001)
	for i := range 1001 {
		many = append(many, fmt.Sprintf("tags[%d]", i+1), "x")
	}
	manyParts, manyType := multi(t, many...)
	brokenName, brokenType := multi(t, "na\xffme", "x")
	brokenValue, brokenValueType := multi(t, "name", "\xff\xfe")
	deepName, deepType := multi(t, strings.Repeat("a.", 50)+"b", "x")
	for _, c := range []struct {
		name, contentType, body string
		want                    int
		says                    string
	}{
		{"too large", "application/json", `{"name":"` + strings.Repeat("x", 256<<10) + `"}`, 413, "at most 262144 bytes"},
		{"too large a form", "application/x-www-form-urlencoded", "name=" + strings.Repeat("x", 256<<10), 413, "at most 262144 bytes"},
		{"too large a multipart form", "multipart/form-data; boundary=x", strings.Repeat("x", 256<<10+1), 413, "at most 262144 bytes"},
		{"of no type", "", `{}`, 415, "send application/json, application/x-www-form-urlencoded or multipart/form-data"},
		{"of another type", "application/xml", `<a/>`, 415, "send application/json, application/x-www-form-urlencoded or multipart/form-data"},
		{"of what is no type", "json; ; ", `{}`, 415, "send application/json"},
		{"cut off", "application/json", `{"name":"x`, 400, "Cannot parse JSON body"},
		{"two documents", "application/json", `{}{}`, 400, "Cannot parse JSON body"},
		{"an array", "application/json", `[]`, 400, "expected an object, got an array"},
		{"null", "application/json", `null`, 400, "expected an object, got null"},
		{"white space", "application/json", "  \n ", 400, "Cannot parse JSON body"},
		{"a byte order mark", "application/json", "\ufeff{}", 400, "Cannot parse JSON body"},
		{"twice the same name", "application/json", `{"name":"a","name":"b"}`, 400, "name"},
		{"twice the same long name", "application/json", `{"` + strings.Repeat("x", 100<<10) + `":1,"` + strings.Repeat("x", 100<<10) + `":2}`, 400, "Cannot parse JSON body"},
		{"twice the same name, deep", "application/json", `{"config":{"a":{"b":1,"b":2}}}`, 400, "/config/a"},
		{"twice the same name, spelled otherwise", "application/json", `{"name":"a","n\u0061me":"b"}`, 400, "name"},
		{"too deep", "application/json", strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), 400, "more than 64 objects and arrays inside each other"},
		{"far too deep", "application/json", strings.Repeat(`[`, 200_000), 400, "Cannot parse JSON body"},
		{"too many values", "application/json", `{"a":[` + strings.Repeat("1,", 120_000) + `1]}`, 400, "values"},
		{"no UTF-8", "application/json", "{\"name\":\"\xff\"}", 400, "UTF-8"},
		{"half a character", "application/json", `{"name":"\ud800"}`, 400, "Cannot parse JSON body"},
		{"a NUL", "application/json", "{\"name\":\"a\x00\"}", 400, "Cannot parse JSON body"},
		{"a form that looks like JSON", "application/x-www-form-urlencoded", `{"name":"x"}`, 400, "send it with Content-Type: application/json"},
		{"a form of no UTF-8", "application/x-www-form-urlencoded", "name=%ff", 400, "the form is not UTF-8"},
		{"a form that is too deep", "application/x-www-form-urlencoded", strings.Repeat("a.", 50) + "b=1", 400, "deep"},
		{"multipart without a boundary", "multipart/form-data", "--x--", 400, "names no boundary"},
		{"multipart with too many parts", manyType, manyParts, 400, "at most 1000 values"},
		{"multipart with a name of no UTF-8", brokenType, brokenName, 400, "UTF-8"},
		{"multipart with a value of no UTF-8", brokenValueType, brokenValue, 400, "UTF-8"},
		{"multipart that is too deep", deepType, deepName, 400, "deep"},
		{"multipart that ends in a header", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-", 400, "cut off"},
		{"multipart with a header too long", "multipart/form-data; boundary=x", "--x\r\nA: " + strings.Repeat("b", 200<<10) + "\r\n\r\n\r\n--x--", 400, "part 1"},
		{"multipart of nothing but boundaries", "multipart/form-data; boundary=x", strings.Repeat("--x\r\n", 10_000), 400, "part 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			for _, route := range routes {
				method, path, _ := strings.Cut(route, " ")
				got := s.do(method, path, c.body, "Content-Type", c.contentType)
				message, _ := got.json(t)["message"].(string)
				if got.status != c.want || !strings.Contains(message, c.says) || len(message) > 500 {
					t.Errorf("%s = %d %.600s; want %d, saying %q", route, got.status, got.body, c.want, c.says)
				}
			}
		})
	}
	s.t = t
	if after := s.do("GET", "/event-hooks/"+id, ""); string(after.body) != string(before.body) {
		t.Errorf("the hook was changed: %s", after.body)
	}
	if got := s.stored(row.Key()); got.Run != 1 {
		t.Errorf("the delivery was redelivered: run %d", got.Run)
	}
}

func TestMultipart_values(t *testing.T) {
	s := newServer(t)
	t.Run("1000 parts, and what is inside them, come as they are", func(t *testing.T) {
		fields := []string{"source", "crud", "handler", "webhook-custom", "config.url", "http://ok.test/", "config.method", "POST", "config.body", " a\r\n\tb; --c\n", "config.body_format", "false"}
		for i := len(fields) / 2; i < 1000; i++ {
			fields = append(fields, fmt.Sprintf("config.payload.n%d", i), "x")
		}
		body, contentType := multi(t, fields...)
		got := s.must(201, "POST", "/event-hooks", body, "Content-Type", contentType)
		config := got["config"].(map[string]any)
		if config["body"] != " a\r\n\tb; --c\n" || config["body_format"] != false || len(config["payload"].(map[string]any)) != 994 {
			t.Errorf("config = %.300v", config)
		}
	})
	t.Run("a test gets them as data", func(t *testing.T) {
		id := s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"log"}`)["id"].(string)
		body, contentType := multi(t, "entity.username", "bob", "operation", "create")
		s.must(200, "POST", "/event-hooks/"+id+"/test", body, "Content-Type", contentType)
		if _, ev := s.action.last(t); string(ev.Data) != `{"entity":{"username":"bob"},"operation":"create"}` {
			t.Errorf("data = %s", ev.Data)
		}
	})
	t.Run("curl's own", func(t *testing.T) {
		body := "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"source\"\r\n\r\ncrud\r\n" +
			"--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"handler\"\r\n\r\nlambda\r\n" +
			"--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"config.functions\"; filename=\"f.lua\"\r\nContent-Type: application/octet-stream\r\n\r\nreturn function (data, event, source, pid)\n  return true\nend\n\r\n" +
			"--------------------------d74496d66958873e--\r\n"
		got := s.must(201, "POST", "/event-hooks", body, "Content-Type", "multipart/form-data; boundary=------------------------d74496d66958873e")
		if functions := got["config"].(map[string]any)["functions"].([]any); len(functions) != 1 || functions[0] != "return function (data, event, source, pid)\n  return true\nend\n" {
			t.Errorf("functions = %q", functions)
		}
	})
}

// TestQueries: what a list's query says is right, or told.
func TestQueries(t *testing.T) {
	s := newServer(t)
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	s.must(201, "POST", "/upstreams", `{"name":"web"}`)
	for path, ownKey := range map[string]string{
		"/event-hooks": id, "/event-hooks/" + id + "/deliveries": eventID(0), "/event-hooks/" + id + "/snoozes": "1#a/b#c",
		"/events/" + eventID(0) + "/deliveries": id, "/upstreams": id, "/tokens": strings.Repeat("a", 64),
		"/upstreams/web/targets": s.must(200, "GET", "/upstreams/web", "")["id"].(string) + "/" + id,
	} {
		s.must(200, "GET", path+"?offset="+offsetOf(ownKey)+"&size=1e1", "")
		s.must(200, "GET", path+"?offset=&colour=red", "")
		for query, code := range map[string]float64{
			"size=": 9, "size=0": 9, "size=-1": 9, "size=1001": 9, "size=1.5": 9, "size=NaN": 9, "size=Inf": 9, "size=0x": 9, "size=1e400": 9, "size=%00": 9,
			"offset=!": 7, "offset=%00": 7, "offset=%ff": 7, "offset=" + offsetOf("") + "": 7, "offset=" + offsetOf("../"+id): 7, "offset=" + offsetOf(strings.ToUpper(id)+"x"): 7,
			"offset=" + offsetOf(id+"/"+id+"/"+id): 7, "offset=" + strings.Repeat("A", 9000): 7, "offset=" + offsetOf("1#a/b#\x00"): 7, "offset=bnVsbA": 7,
			"size=%zz": 0, "%zz": 0, "a;b": 0,
		} {
			got := s.must(400, "GET", path+"?"+query, "")
			if actual, _ := got["code"].(float64); actual != code || len(got["message"].(string)) > 300 {
				t.Errorf("%s?%.60s: %.300v; want code %v", path, query, got, code)
			}
		}
	}
	// Lists whose keys look otherwise.
	for path, key := range map[string]string{
		"/event-hooks": strings.Repeat("a", 64), "/tokens": id, "/upstreams/web/targets": id + "/" + id, "/event-hooks/" + id + "/snoozes": id, "/upstreams": "web",
	} {
		s.must(400, "GET", path+"?offset="+offsetOf(key), "")
	}
}

func offsetOf(key string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "[%q]", key))
}

// TestPaths: an id that is none is refused alike everywhere.
func TestPaths(t *testing.T) {
	s := newServer(t)
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	for _, bad := range []string{"x", "%00", "%ff", id[:35], id + "0", "{" + id[1:], strings.Repeat("0", 5000), "..", "%2e%2e", "render%20"} {
		for _, route := range []string{
			"GET /event-hooks/", "PATCH /event-hooks/", "PUT /event-hooks/", "DELETE /event-hooks/", "GET /event-hooks/*/deliveries", "GET /event-hooks/*/deliveries/" + eventID(0),
			"POST /event-hooks/*/deliveries/" + eventID(0) + "/redeliver", "POST /event-hooks/*/redeliver", "GET /event-hooks/*/snoozes", "DELETE /event-hooks/*/snoozes/MSNhL2IjYw",
			"POST /event-hooks/*/secret/rotate", "POST /event-hooks/*/test", "GET /event-hooks/*/ping", "GET /events/*/deliveries",
			"GET /event-hooks/" + id + "/deliveries/*", "POST /event-hooks/" + id + "/deliveries/*/redeliver",
		} {
			method, path, _ := strings.Cut(route, " ")
			if !strings.Contains(path, "*") {
				path += "*"
			}
			r, err := http.NewRequest(method, strings.Replace(path, "*", bad, 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := s.do(method, r.URL.RequestURI(), "")
			if got.status != 400 || got.json(t)["code"] != 1.0 {
				t.Errorf("%s with %.40s = %d %.300s; want 400, code 1", route, bad, got.status, got.body)
			}
		}
	}
}

// What is sent wrong comes back named, and must not come back many times over:
// Lambda answers at most 6 MB, as a string in JSON.
func TestAnswers_areBounded(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("a", 50_000)
	many := func(text string, n int) string { return strings.TrimSuffix(strings.Repeat(text+",", n), ",") }
	var unknown []string
	for i := range 15_000 {
		unknown = append(unknown, fmt.Sprintf(`"x%d":1`, i))
	}
	for _, c := range []struct{ name, method, path, body string }{
		{"one long name above many faults", "POST", "/event-hooks", `{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","payload":{"` + long + `":[` + many(`"{{"`, 20_000) + `]}}}`},
		{"many unknown fields", "POST", "/event-hooks", `{` + strings.Join(unknown, ",") + `}`},
		{"many unknown fields of a config", "POST", "/event-hooks/render", `{"hook":{"source":"crud","handler":"log","config":{` + strings.Join(unknown, ",") + `}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.do(c.method, c.path, c.body)
			if got.status != 400 || len(got.body) > 4*len(c.body) || len(got.body) > 2<<20 {
				t.Errorf("%d with %d bytes, to a request of %d", got.status, len(got.body), len(c.body))
			}
		})
	}
	t.Run("a page of texts that are mostly quotes", func(t *testing.T) {
		body := strings.Repeat(`\"`, 30_000)
		for range 80 {
			s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","body_format":false,"body":"`+body+`"}}`)
		}
		got := s.do("GET", "/event-hooks?size=1000", "")
		encoded, err := json.Marshal(string(got.body))
		if err != nil || len(encoded) > 5<<20 || got.json(t)["next"] == nil {
			t.Errorf("a page of %d bytes, %d for Lambda, next %v; want less than 5 MB and another page", len(got.body), len(encoded), got.json(t)["next"])
		}
	})
	t.Run("a catalogue of large samples", func(t *testing.T) {
		const most = 16 << 10
		sample := func(n int) string { return `{"sample":{"a":"` + strings.Repeat("s", n-len(`{"a":""}`)) + `"}}` }
		s.must(400, "PUT", "/event-hooks/sources/large/e", sample(most+1))
		for i := range 300 {
			s.must(201, "PUT", fmt.Sprintf("/event-hooks/sources/large/e%d", i), sample(most))
		}
		for _, path := range []string{"/event-hooks/sources", "/event-hooks/sources/large"} {
			if got := s.do("GET", path, ""); got.status != 200 || len(got.body) > 4<<20 {
				t.Errorf("GET %s = %d with %d bytes", path, got.status, len(got.body))
			}
		}
		if got := s.do("GET", "/event-hooks/sources/large/e7", ""); !strings.Contains(string(got.body), "sample") {
			t.Errorf("the event itself: %.200s; want its sample", got.body)
		}
	})
}
