{{- define "anomoe.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{ trunc 53 $name | trimSuffix "-" }}
{{- end }}

{{- define "anomoe.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "anomoe.labels" -}}
{{ include "anomoe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "anomoe.monitoringLabels" -}}
{{ include "anomoe.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anomoe.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default (printf "%s%s" $.Chart.AppVersion (ternary "-gpu" "" (gt (int $.Values.gpu.count) 0))) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "anomoe.container" -}}
image: {{ include "anomoe.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "anomoe.resources" -}}
cpu: {{ .Values.resources.cpu | quote }}
memory: {{ .Values.resources.memory | quote }}
{{- end }}

{{- define "anomoe.check" -}}
{{- with .Values }}
{{- if and .apiKeys.required (not .apiKeys.existingSecret) }}
{{- fail "apiKeys.existingSecret: name a secret with the file api_keys (anomoe key line-7 --file api_keys), or set apiKeys.required=false, and whoever reaches the service may ask" }}
{{- end }}
{{- range $source := list "claim" "pull" "image" }}
{{- if ne (eq $.Values.bundles.source $source) (not (empty (index $.Values.bundles $source))) }}
{{- fail (printf "bundles.%s: needed by bundles.source=%s, and by no other" $source $source) }}
{{- end }}
{{- end }}
{{- if and .state.claim (or (gt (int .replicas) 1) .autoscaling.enabled) }}
{{- fail (printf "state.claim: %s is for one process: set replicas=1 and autoscaling.enabled=false" .state.claim) }}
{{- end }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}{{ fail "autoscaling: minReplicas is more than maxReplicas" }}{{ end }}
{{- end }}
{{- end }}
