package corpus

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// between is the pause between two events of a stream.
const between = 10 * time.Millisecond

// maxRepeated bounds what one line of a file can stand for.
const maxRepeated = 16 << 20

// A section is a part of a file, below a line "-- name options --".
type section struct {
	name    string
	options []string
	lines   []string
}

var heading = regexp.MustCompile(`^-- ([a-z]+)((?: [^ ]+)*) --$`)

// Parse reads one file.
func Parse(name, text string) (*Exchange, error) {
	about, sections := cut(text)
	x := &Exchange{Name: name, About: strings.TrimSpace(about), Config: map[string]string{}}
	if x.About == "" {
		return nil, errors.New("a first line says whose dialect it is, and what is odd")
	}
	var expected []string
	for _, s := range sections {
		var err error
		switch s.name {
		case "request":
			x.Request, err = parseRequest(s.lines)
		case "answer":
			var a Answer
			a, err = parseAnswer(s)
			x.Answers = append(x.Answers, a)
		case "config":
			err = fields(s.lines, func(key, value string) error { x.Config[key] = value; return nil })
		case "expect":
			expected = s.lines
		default:
			err = errors.New("sections are request, answer, config and expect")
		}
		if err != nil {
			return nil, fmt.Errorf("-- %s --: %w", s.name, err)
		}
	}
	if x.Request.Method == "" || len(x.Answers) == 0 {
		return nil, errors.New("a request and an answer are needed")
	}
	x.expectDefaults()
	if err := fields(expected, x.expect); err != nil {
		return nil, fmt.Errorf("-- expect --: %w", err)
	}
	return x, nil
}

// cut splits a file into what stands before its sections, and these.
func cut(text string) (about string, sections []section) {
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if m := heading.FindStringSubmatch(line); m != nil {
			sections = append(sections, section{name: m[1], options: strings.Fields(m[2])})
		} else if n := len(sections); n > 0 {
			sections[n-1].lines = append(sections[n-1].lines, line)
		} else {
			about += line + "\n"
		}
	}
	return about, sections
}

// fields calls each with what stands before and behind the colon of each line.
func fields(lines []string, each func(key, value string) error) error {
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("no colon in %q", line)
		}
		if err := each(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// head reads a first line and headers, up to a blank line.
func head(lines []string) (first string, header http.Header, rest []string, err error) {
	if len(lines) == 0 {
		return "", nil, nil, errors.New("it is empty")
	}
	first, rest = lines[0], lines[1:]
	end := slices.Index(rest, "")
	if end < 0 {
		end = len(rest)
	}
	header = http.Header{}
	err = fields(rest[:end], func(key, value string) error { header.Add(key, value); return nil })
	return first, header, rest[min(end+1, len(rest)):], err
}

func parseRequest(lines []string) (Request, error) {
	first, header, payload, err := head(lines)
	if err != nil {
		return Request{}, err
	}
	method, path, ok := strings.Cut(first, " ")
	if !ok {
		return Request{}, fmt.Errorf("%q is no method and path", first)
	}
	r := Request{Method: method, Path: path, Header: header}
	r.Payload = []byte(strings.TrimRight(strings.Join(payload, "\n"), "\n"))
	if len(r.Payload) > 0 && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	return r, nil
}

func parseAnswer(s section) (Answer, error) {
	first, header, body, err := head(s.lines)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Header: header}
	if a.Status, err = strconv.Atoi(first); err != nil {
		return Answer{}, fmt.Errorf("%q is no status", first)
	}
	end := "\n"
	for _, option := range s.options {
		switch option {
		case "crlf":
			end = "\r\n"
		case "cr":
			end = "\r"
		default:
			if a.Silence, err = time.ParseDuration(option); err != nil {
				return Answer{}, fmt.Errorf("%q is neither crlf nor cr nor a duration", option)
			}
		}
	}
	b := builder{answer: &a, end: end}
	for _, line := range body {
		if err := b.line(line); err != nil {
			return Answer{}, err
		}
	}
	b.flush()
	return a, nil
}

// A builder makes the steps of an answer of its lines.
type builder struct {
	answer *Answer
	end    string // of a line
	bytes  []byte // not yet a step
	blank  bool   // an event has just ended
}

// line adds a line of the body. One that begins with "@" says something else.
func (b *builder) line(line string) error {
	if directive, ok := strings.CutPrefix(line, "@"); ok {
		return b.directive(directive)
	}
	if b.answer.End != Clean {
		return errors.New("nothing can follow @cut, @reset or @open")
	}
	text, ends := strings.CutSuffix(line, `\`)
	if !ends {
		text += b.end
	}
	b.add([]byte(text))
	b.blank = line == ""
	return nil
}

// add adds bytes, after a pause if an event has just ended.
func (b *builder) add(p []byte) {
	if b.blank {
		b.step(step{pause: between})
	}
	b.blank = false
	b.bytes = append(b.bytes, p...)
}

func (b *builder) step(s step) {
	b.flush()
	b.answer.steps = append(b.answer.steps, s)
}

func (b *builder) flush() {
	if len(b.bytes) > 0 {
		b.answer.steps = append(b.answer.steps, step{bytes: b.bytes})
	}
	b.bytes = nil
}

func (b *builder) directive(d string) error {
	switch d {
	case "useful":
		b.step(step{mark: Useful})
	case "complete":
		b.step(step{mark: Complete})
	case "cut":
		b.answer.End = Cut
	case "reset":
		b.answer.End = Reset
	case "open":
		b.answer.End = Open
	default:
		return b.bytesOrPause(d)
	}
	return nil
}

// bytesOrPause reads a duration, a quoted string, or a number, "*" and a
// quoted string that is sent so many times.
func (b *builder) bytesOrPause(d string) error {
	if pause, err := time.ParseDuration(d); err == nil {
		b.blank = false
		b.step(step{pause: pause})
		return nil
	}
	times := 1
	count, quoted, ok := strings.Cut(d, `*"`)
	if ok {
		var err error
		if times, err = strconv.Atoi(count); err != nil {
			return err
		}
		if times < 0 || times > maxRepeated/max(1, len(quoted)) {
			return fmt.Errorf("%d times is too often", times)
		}
		d = `"` + quoted
	}
	text, err := strconv.Unquote(d)
	if err != nil {
		return fmt.Errorf("@%s is no mark, end, duration or quoted string", d)
	}
	b.add(bytes.Repeat([]byte(text), times))
	return nil
}
