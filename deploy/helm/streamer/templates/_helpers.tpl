{{- define "streamer.name" -}}
{{- printf "%s" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "streamer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streamer.labels" -}}
{{ include "streamer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "streamer.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "streamer.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "streamer.config" -}}
{{- $fixed := dict "http" (dict "listen" "0.0.0.0:9180") "log" (dict "format" "json") -}}
{{- mergeOverwrite (deepCopy .Values.config) $fixed | toYaml -}}
{{- end -}}
