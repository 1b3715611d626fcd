{{- define "tollstream.labels" -}}
app.kubernetes.io/name: tollstream
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What selects the pods of a component: a dict of root and component. */}}
{{- define "tollstream.selector" -}}
app.kubernetes.io/name: tollstream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Settings as variables: their names in capitals. */}}
{{- define "tollstream.env" -}}
{{- range $name, $value := . }}
- name: TOLLSTREAM_{{ $name | upper | replace "-" "_" }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "tollstream.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tollstream.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - secretRef: {name: {{ .Values.secretName }}}
{{- end }}

{{- define "tollstream.probes" -}}
# Kafka or MySQL that do not answer are no reason to restart: /healthz fails where only that helps.
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
{{- end }}

{{- define "tollstream.tlsMount" -}}
{{- if .Values.tlsSecretName }}
- {name: tls, mountPath: /etc/tollstream/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "tollstream.tlsVolume" -}}
{{- if .Values.tlsSecretName }}
- name: tls
  secret: {secretName: {{ .Values.tlsSecretName }}, defaultMode: 0440}
{{- end }}
{{- end }}
