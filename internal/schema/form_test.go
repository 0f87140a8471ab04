package schema_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

func TestForm(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      `{}`,
		"source=a&snooze=5":                     `{"snooze":5,"source":"a"}`,
		"snooze=05":                             `{"snooze":"05"}`,
		"snooze=&on_change=false":               `{"on_change":false,"snooze":null}`,
		"tags=a":                                `{"tags":["a"]}`,
		"name=%z%5&name=%2&&=&name=a;b=%3b":     `{"":null,"name":["%z%5","%2","a;b=;"]}`,
		"tags=":                                 `{"tags":null}`,
		"tags[]=":                               `{"tags":[null]}`,
		"tags=&tags=a":                          `{"tags":[null,"a"]}`,
		"tags[2]=b&tags[1]=a&tags=c":            `{"tags":["a","b","c"]}`,
		"tags[10]=b&tags[9]=a":                  `{"tags":["a","b"]}`,
		"tags[1].x=a":                           `{"tags[1].x":"a"}`,
		"config.headers.A.B=c":                  `{"config":{"headers":{"A.B":"c"}}}`,
		"config.headers.a=1&config.headers.a=2": `{"config":{"headers":{"a":["1","2"]}}}`,
		"config.headers=&config.secret=":        `{"config":{"headers":null,"secret":null}}`,
		"config=1&config.url=2":                 `{"config":"1"}`,
		"config[1].url=2":                       `{"config":[{"url":"2"}]}`,
		"config.payload.a.b=1&more=x":           `{"config":{"payload":{"a":{"b":"1"}}},"more":"x"}`,
		"config.payload.text=5&config.payload.list[]=a":                          `{"config":{"payload":{"list":["a"],"text":"5"}}}`,
		"config.payload.blocks[2].type=b&config.payload.blocks[1].text.type=a":   `{"config":{"payload":{"blocks":[{"text":{"type":"a"}},{"type":"b"}]}}}`,
		"config.payload.a[2]=two&config.payload.a[1].b=one&config.payload.a=end": `{"config":{"payload":{"a":[{"b":"one"},"two","end"]}}}`,
		"config.functions=return function () end":                                `{"config":{"functions":["return function () end"]}}`,
		"config.functions=a&config.functions=b":                                  `{"config":{"functions":["a","b"]}}`,
		"config.functions[]=a":                                                   `{"config":{"functions":["a"]}}`,
		"config.functions[2]=b&config.functions[1]=a":                            `{"config":{"functions":["a","b"]}}`,
		"config.timeout=5&config.ssl_verify=true&config.method=POST":             `{"config":{"method":"POST","ssl_verify":true,"timeout":5}}`,
		"filter.health=unhealthy":                                                `{"filter":{"health":["unhealthy"]}}`,
		"filter.health=a&filter.health=b":                                        `{"filter":{"health":["a","b"]}}`,
		"filter.health[2]=b&filter.health[1]=a":                                  `{"filter":{"health":["a","b"]}}`,
		"filter.port=80&filter.entity.name=":                                     `{"filter":{"entity":{"name":[null]},"port":["80"]}}`,
		"filter.$or[1].a=x&filter.$or[2].b=y":                                    `{"filter":{"$or":[{"a":["x"]},{"b":["y"]}]}}`,
		"filter=":                                                                `{"filter":null}`,
		"filter=x":                                                               `{"filter":"x"}`,
		"name.deep=1":                                                            `{"name.deep":"1"}`,
		"unknown[]=1&unknown[]=2":                                                `{"unknown":["1","2"]}`,
		"source[]=a":                                                             `{"source":"a"}`,
		"source=a&source[]=b":                                                    `{"source":["a","b"]}`,
		"a[x]=1":                                                                 `{"a[x]":"1"}`,
		"[]=1&[1]=2":                                                             `{"[1]":"2","[]":"1"}`,
		"a..b=1&.=2":                                                             `{"":{"":"2"},"a":{"":{"b":"1"}}}`,
	} {
		got, err := schema.HookForm().JSON(strings.ReplaceAll(in, " ", "+"))
		if err != nil || string(got) != want {
			t.Errorf("JSON(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"a":1}`:                        "the body looks like JSON: send it with Content-Type: application/json",
		strings.Repeat("a=1&", 1001):     "a form has at most 1000 values",
		"a=%ff":                          "the form is not UTF-8",
		"%ff=a":                          "the form is not UTF-8",
		strings.Repeat("a.", 20) + "b=1": "a name is more than 16 deep",
		// One of the two would be lost, and nothing would say so.
		"config.payload.a=1&config.payload.a.b=2":                          "config.payload.a: it has a value, and names below it too",
		"config.payload=&config.payload.a=2":                               "config.payload: it has a value, and names below it too",
		"config=&config.url=2":                                             "config: it has a value, and names below it too",
		"config.payload.a[1]=x&config.payload.a[1].b=y":                    "config.payload.a[1]: it has a value, and names below it too",
		"config.payload.a[1].b=x&config.payload.a.b=y":                     "config.payload.a: it has a value, and names below it too",
		strings.Repeat("é", 60) + "=1&" + strings.Repeat("é", 60) + ".a=1": strings.Repeat("é", 50) + "…: it has a value, and names below it too",
		"config.payload.a[].b=x":                                           "config.payload.a[].b: an element with names below it needs its number, like [1]",
	} {
		got, err := schema.HookForm().JSON(in)
		fault, ok := errors.AsType[*schema.FormError](err)
		if !ok || fault.Reason != want {
			t.Errorf("JSON(%q) = %s, %T %v; want a *FormError: %s", in, got, err, err, want)
		}
	}
}

func TestForm_Values(t *testing.T) {
	t.Run("values are taken as they are, in their order", func(t *testing.T) {
		const source = "return function (data)\n  return data.a == \"%41+&\"\nend\n"
		got, err := schema.HookForm().Values(url.Values{"config.functions": {source, "second"}, "handler": {"lambda"}, "nothing": {}})
		want := string(encode(t, map[string]any{"handler": "lambda", "config": map[string]any{"functions": []string{source, "second"}}}))
		if diff := cmp.Diff(want, string(encode(t, decode(t, got)))); err != nil || diff != "" {
			t.Errorf("Values = %v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("what is not UTF-8 is refused", func(t *testing.T) {
		for _, values := range []url.Values{{"a": {"\xff"}}, {"\xff": {"a"}}} {
			if _, err := schema.HookForm().Values(values); err == nil || err.Error() != "the form is not UTF-8" {
				t.Errorf("Values(%q) = %v; want that it is not UTF-8", values, err)
			}
		}
	})
	t.Run("a value that looks like JSON is a text", func(t *testing.T) {
		got, err := schema.Form{}.Values(url.Values{"a": {`{"b":1}`}})
		if want := `{"a":"{\"b\":1}"}`; err != nil || string(got) != want {
			t.Errorf("Values = %s, %v; want %s", got, err, want)
		}
	})
}

// TestForm_hooks: a form and the JSON that it stands for are the same hook.
func TestForm_hooks(t *testing.T) {
	tests := []struct{ name, form, doc string }{
		{
			"webhook", "source=crud&event=consumers&handler=webhook&config.url=http://x.test/&config.headers.content-type=text/plain&on_change=true&snooze=60&tags=a&retry.max_age=9&filter.operation=create",
			`{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"http://x.test/","headers":{"content-type":"text/plain"}},
			  "on_change":true,"snooze":60,"tags":["a"],"retry":{"max_age":9},"filter":{"operation":["create"]}}`,
		},
		{
			"webhook-custom", "source=a&handler=webhook-custom&config.url=http://x.test/&config.method=PUT&config.payload.text={{a}}&config.headers_format=true",
			`{"source":"a","handler":"webhook-custom","config":{"url":"http://x.test/","method":"PUT","payload":{"text":"{{a}}"},"headers_format":true}}`,
		},
		{"log", "source=a&handler=log&enabled=false", `{"source":"a","handler":"log","enabled":false}`},
		{"lambda", "source=a&handler=lambda&config.functions=return 1", `{"source":"a","handler":"lambda","config":{"functions":["return 1"]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := schema.HookForm().JSON(strings.ReplaceAll(tt.form, " ", "+"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(newHook(t, tt.doc), newHook(t, string(doc)), same); diff != "" {
				t.Errorf("(-JSON +form):\n%s", diff)
			}
		})
	}
}

func TestForm_upstream(t *testing.T) {
	got, err := schema.UpstreamForm().JSON("healthchecks.active.headers.X-A[]=1&healthchecks.active.headers.X.B=2&healthchecks.active.headers.X.B=3" +
		"&healthchecks.active.healthy.interval=30.5&healthchecks.active.healthy.http_statuses=200&slots=10000&use_srv_name=false" +
		"&healthchecks.passive.healthy.successes=0&healthchecks.passive.unhealthy.http_statuses[]=429&name=x" +
		"&healthchecks.active.grpc_service=5&healthchecks.active.certificate_expiry_days=5&remind_every=3600")
	const want = `{"healthchecks":{"active":{"certificate_expiry_days":5,"grpc_service":"5","headers":{"X-A":["1"],"X.B":["2","3"]},"healthy":{"http_statuses":[200],"interval":30.5}},` +
		`"passive":{"healthy":{"successes":0},"unhealthy":{"http_statuses":[429]}}},"name":"x","remind_every":3600,"slots":10000,"use_srv_name":false}`
	if err != nil || string(got) != want {
		t.Errorf("JSON = %s, %v\nwant %s", got, err, want)
	}
}

// FuzzForm: a form is a strict JSON object, whose reading does not panic, or
// an error of one kind; and it is read the same when it was decoded before.
func FuzzForm(f *testing.F) {
	f.Add("a[1].b=1&a[1]=2&a[]=3&a.b.c=4&a=5")
	f.Add("tags[]=1&tags=2&config.headers.a.b[1]=x&config.payload.a.b[2].c=y&filter.a[].b=1&filter.$or[1].x=2")
	f.Add("name=x&healthchecks.active.headers.a[]=b&slots=5&client_certificate.id=x&healthchecks.passive=1")
	f.Fuzz(func(t *testing.T, body string) {
		for _, form := range []schema.Form{{}, schema.HookForm(), schema.UpstreamForm(), schema.TargetForm(), schema.SourceForm(), schema.TokenForm()} {
			doc, err := form.JSON(body)
			if err != nil {
				if _, ok := errors.AsType[*schema.FormError](err); !ok || err.Error() == "" {
					t.Fatalf("JSON(%q) = %T %v", body, err, err)
				}
				continue
			}
			if _, err := strictjson.Object(doc, strictjson.Limits{}); err != nil {
				t.Fatalf("JSON(%q) = %s: %v", body, doc, err)
			}
			values, err := url.ParseQuery(body)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := form.Values(values); err != nil || string(again) != string(doc) {
				t.Fatalf("Values of %q = %s, %v; JSON is %s", body, again, err, doc)
			}
			_, _ = schema.NewHook(doc, id, nil)
			_, _ = schema.NewUpstream(doc, id, "", nil)
			_, _ = schema.NewTarget(doc, id, "")
			_, _ = schema.NewSource(doc, "a", "b")
			_, _ = schema.NewToken(doc, 5)
		}
	})
}
