package action

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
	"eventhooks/internal/render"
	"eventhooks/internal/sign"
)

// plan is a hook's configuration, compiled.
type plan struct {
	handler string
	config  hook.Config // what it was made of
	faults  hook.FieldErrors

	headers []header // sorted by name
	body    *render.Template
	plain   []byte // body without tags: body_format false
	payload *render.Payload
	typed   bool // the hook has a Content-Type of its own
	json    bool // and that is one of JSON
	values  bool // rendering needs the event's values
	// scripts are what has to be run before anything is rendered: those of the
	// headers, then of the body, or else of the payload.
	scripts []*render.Script
}

// header is one of the hook's own, its name canonical. Its value is text, or a
// template when there is one.
type header struct {
	name  string
	field string // of the hook
	value string
	tmpl  *render.Template
}

// Check reports all that is wrong with a hook's action, by field: a handler that
// does not exist, headers that cannot be sent, a method or a secret that is none,
// templates that do not parse, Lua that is none or exceeds the bounds of package
// lua. It executes nothing. The n-th of a lambda's functions, counted from 1, is
// the field "config.functions.<n>"; what is of several fields together is
// "@entity". That fields are there and of the right type is for others to check.
func Check(h hook.Hook) hook.FieldErrors {
	p := compile(h)
	if h.Handler == hook.HandlerLambda {
		checkFunctions(h.Config.Functions, p.faults)
	}
	for field, script := range p.eachScript {
		if err := lua.CheckScript(script); err != nil {
			p.faults.Add(join(field, err.Field), "%s", err.Fault())
		}
	}
	return p.faults
}

// eachScript yields the scripts of all templates, also of those that another one
// wins over, with the field that each is in.
func (p *plan) eachScript(yield func(field string, s *render.Script) bool) {
	for _, hd := range p.headers {
		if hd.tmpl != nil && hd.tmpl.Script() != nil && !yield(hd.field, hd.tmpl.Script()) {
			return
		}
	}
	if p.body != nil && p.body.Script() != nil && !yield("config.body", p.body.Script()) {
		return
	}
	if p.payload == nil {
		return
	}
	for _, s := range p.payload.Scripts() {
		if !yield("config.payload", s) {
			return
		}
	}
}

// checkFunctions is no part of a plan: only who saves a hook waits for it.
func checkFunctions(functions []string, faults hook.FieldErrors) {
	if len(functions) > hook.MaxFunctions {
		faults.Add("config.functions", "length must be at most %d", hook.MaxFunctions)
		return
	}
	for i, source := range functions {
		if err := lua.Check(source); err != nil {
			faults.Add("config.functions."+strconv.Itoa(i+1), "%s", err)
		}
	}
}

// Names returns the top-level names of event values that the hook's templates
// use, sorted, as far as they parse. Those of headers whose values are secrets
// are left out: what is no template there may be part of one.
func Names(h hook.Hook) []string {
	p := compile(h)
	var names []string
	for field, script := range p.eachScript {
		if name, ok := strings.CutPrefix(field, "config.headers."); !ok || !hook.SecretHeader(name) {
			names = append(names, lua.ScriptNames(script)...)
		}
	}
	for _, hd := range p.headers {
		if hd.tmpl != nil && !hook.SecretHeader(hd.name) {
			names = append(names, hd.tmpl.Names()...)
		}
	}
	if p.body != nil {
		names = append(names, p.body.Names()...)
	}
	if p.payload != nil {
		names = append(names, p.payload.Names()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// madeOf reports whether the plan is that of h.
func (p *plan) madeOf(h hook.Hook) bool {
	a, b := &p.config, &h.Config
	return p.handler == h.Handler &&
		a.HeadersFormat == b.HeadersFormat && a.PayloadFormat == b.PayloadFormat && a.BodyFormat == b.BodyFormat &&
		a.Method == b.Method && a.Secret == b.Secret &&
		(a.Body == nil) == (b.Body == nil) && (a.Body == nil || *a.Body == *b.Body) &&
		bytes.Equal(a.Payload, b.Payload) && maps.Equal(a.Headers, b.Headers)
}

// err says that the plan is no use. It names the fields at fault and shows
// nothing of them.
func (p *plan) err() error {
	if len(p.faults) == 0 {
		return nil
	}
	return fmt.Errorf("the hook is not valid: %s", strings.Join(slices.Sorted(maps.Keys(p.faults)), ", "))
}

func compile(h hook.Hook) *plan {
	p := &plan{handler: h.Handler, config: h.Config, faults: hook.FieldErrors{}}
	switch h.Handler {
	case hook.HandlerLog, hook.HandlerLambda:
		return p
	case hook.HandlerWebhook:
		p.compileHeaders(false)
	case hook.HandlerCustom:
		p.compileHeaders(h.Config.HeadersFormat)
		if m := h.Config.Method; m != "" && !isMethod(m) {
			p.faults.Add("config.method", "invalid value: %s", m)
		}
		p.compileBody()
	default:
		p.faults.Add("handler", "unknown type: %s; expected one of: %s, %s, %s, %s", h.Handler,
			hook.HandlerWebhook, hook.HandlerCustom, hook.HandlerLog, hook.HandlerLambda)
		return p
	}
	if fault := sign.CheckSecret(h.Config.Secret); fault != "" {
		p.faults.Add("config.secret", "%s", fault)
	}
	for field, script := range p.eachScript {
		if field != "config.payload" || p.config.Body == nil { // body wins
			p.scripts = append(p.scripts, script)
		}
	}
	return p
}

// isMethod reports whether m is an HTTP method in upper case, as Kong wants
// it. CONNECT asks for a tunnel, which no receiver is.
func isMethod(m string) bool {
	for i := range len(m) {
		if m[i] < 'A' || m[i] > 'Z' {
			return false
		}
	}
	return m != http.MethodConnect
}

// reserved tells of headers that are not the hook's to set: ours, and those
// that belong to the connection.
func reserved(canonical string) bool {
	switch canonical {
	case "User-Agent", "Traceparent",
		sign.HeaderID, sign.HeaderTimestamp, sign.HeaderStandard, sign.HeaderKong,
		"Host", "Content-Length", "Transfer-Encoding", "Connection",
		"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Expect":
		return true
	}
	return false
}

func (p *plan) compileHeaders(format bool) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.config.Headers)) {
		value := p.config.Headers[name]
		field := "config.headers." + name
		canonical := http.CanonicalHeaderKey(name)
		switch other := seen[canonical]; {
		case !isToken(name):
			p.faults.Add(field, "invalid header name")
			continue
		case reserved(canonical):
			p.faults.Add(field, "reserved header")
			continue
		case other != "":
			p.faults.Add(field, "differs from %s in case only", other)
			continue
		}
		seen[canonical] = name
		if canonical == "Content-Type" {
			p.typed, p.json = true, isJSON(value)
		}
		hd := header{name: canonical, field: field, value: strings.TrimSpace(value)}
		if !isPrintable(value) {
			p.faults.Add(field, "must not contain control characters")
			continue
		}
		if format {
			t, err := render.ParseText(hd.value)
			if err != nil {
				p.faults.Add(field, "%s", err)
				continue
			}
			if t.Tags() > 0 {
				p.values = true
			}
			hd.tmpl = t
		}
		p.headers = append(p.headers, hd)
	}
}

func (p *plan) compileBody() {
	tags := 0
	for _, hd := range p.headers {
		if hd.tmpl != nil {
			tags += hd.tmpl.Tags()
		}
	}
	if p.config.Payload != nil {
		var err error
		p.payload, err = render.ParsePayload(p.config.Payload, p.config.PayloadFormat)
		var all render.Errors
		switch {
		case errors.As(err, &all):
			for _, e := range all {
				p.faults.Add(join("config.payload", e.Field), "%s", e.Fault())
			}
		case err != nil:
			p.faults.Add("config.payload", "%s", err)
		default:
			tags += p.payload.Tags()
			p.values = p.values || p.payload.Tags() > 0
		}
	}
	if p.config.Body != nil {
		switch body := *p.config.Body; {
		case !p.config.BodyFormat:
			p.plain = []byte(body)
		default:
			parse := render.ParseText
			if p.json {
				parse = render.ParseJSON
			}
			var err error
			if p.body, err = parse(body); err != nil {
				p.faults.Add("config.body", "%s", err)
				break
			}
			tags += p.body.Tags()
			p.values = p.values || p.body.Tags() > 0
		}
	}
	if tags > render.MaxTags {
		p.faults.Add("@entity", "more than %d tags in headers, body and payload together", render.MaxTags)
	}
}

func join(field, sub string) string {
	if sub == "" {
		return field
	}
	return field + "." + sub
}

// isJSON reports whether a content type is one of JSON, whatever its
// parameters.
func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
}

// isToken reports whether s may be a header's name (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// isPrintable reports whether s has no control characters.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// bind returns the plan with what its scripts wrote.
func (p *plan) bind(pieces [][]byte) (*plan, error) {
	out := *p
	out.headers = slices.Clone(p.headers)
	for i := range out.headers {
		hd := &out.headers[i]
		if hd.tmpl == nil || hd.tmpl.Script() == nil {
			continue
		}
		t, err := hd.tmpl.Bind(pieces[0])
		if err != nil {
			return nil, fmt.Errorf("render header %s: %w", hd.name, err)
		}
		hd.tmpl, pieces = t, pieces[1:]
	}
	var err error
	switch {
	case p.body != nil && p.body.Script() != nil:
		if out.body, err = p.body.Bind(pieces[0]); err != nil {
			return nil, fmt.Errorf("render body: %w", err)
		}
	case p.config.Body == nil && p.payload != nil:
		if out.payload, err = p.payload.Bind(pieces); err != nil {
			return nil, fmt.Errorf("render payload: %w", err)
		}
	}
	return &out, nil
}

// MaxHeaderValueBytes bounds a header's rendered value. Servers refuse a
// request whose headers together are larger than some 8 to 16 KB.
const MaxHeaderValueBytes = 8 << 10

// render appends the header's value for an event.
func (hd header) render(v render.Values) (string, error) {
	if hd.tmpl == nil {
		return hd.value, nil
	}
	b, err := hd.tmpl.Append(nil, v)
	if err != nil {
		return "", fmt.Errorf("render header %s: %w", hd.name, err)
	}
	if !isPrintable(string(b)) {
		return "", fmt.Errorf("render header %s: the value has control characters", hd.name)
	}
	if len(b) > MaxHeaderValueBytes {
		return "", fmt.Errorf("render header %s: the value is larger than %s KB", hd.name, strconv.Itoa(MaxHeaderValueBytes>>10))
	}
	return strings.TrimSpace(string(b)), nil
}
