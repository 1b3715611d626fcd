package serve

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		want   []string // parts of the error, in order; none where it is valid
	}{
		"default":      {Config{Listen: DefaultListen}, nil},
		"localhost":    {Config{Listen: "localhost:80"}, nil},
		"v6":           {Config{Listen: "[::1]:8080"}, nil},
		"127.1.2.3":    {Config{Listen: "127.1.2.3:0"}, nil},
		"everywhere":   {Config{Listen: ":8080"}, []string{`":8080" is not a loopback address`}},
		"zero":         {Config{Listen: "0.0.0.0:8080"}, []string{"needs a token"}},
		"v6 zero":      {Config{Listen: "[::]:8080"}, []string{"needs a token"}},
		"a name":       {Config{Listen: "toll.example.com:8080"}, []string{"needs a token"}},
		"mapped":       {Config{Listen: "[::ffff:10.0.0.1]:8080"}, []string{"needs a token"}},
		"with a token": {Config{Listen: ":8080", Token: testToken}, nil},
		"anyone":       {Config{Listen: ":8080", NoAuth: true}, nil},
		"both": {Config{Listen: ":8080", NoAuth: true, Token: testToken},
			[]string{"no authentication is set together with a token"}},
		"short token": {Config{Listen: DefaultListen, Token: "hunter2"},
			[]string{"token has 7 characters"}},
		"token with blank": {Config{Listen: DefaultListen, Token: "correct horse battery"},
			[]string{"token has blanks"}},
		"key without cert": {Config{Listen: DefaultListen, TLSKey: "key.pem"},
			[]string{`"" and key "key.pem"`}},
		"all at once": {Config{Listen: "nowhere", Token: "hunter2\n", TLSCert: "c",
			Hosts: []string{"https://x"}, MaxConnections: -1},
			[]string{`"nowhere"`, "8 characters", "blanks", `"c"`, `"https://x"`, "connections -1"}},
		"port": {Config{Listen: "127.0.0.1:99999"}, []string{`"99999"`}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it is valid")
			}
			rest := err.Error()
			for _, part := range test.want {
				_, after, ok := strings.Cut(rest, part)
				if !ok {
					t.Fatalf("%q is not in %q, or not in this order", part, err)
				}
				rest = after
			}
			if test.config.Token != "" && strings.Contains(err.Error(), test.config.Token) {
				t.Errorf("the error shows the token: %v", err)
			}
			if _, err := New(test.config, Probes{}); err == nil {
				t.Error("New takes it")
			}
		})
	}
}
