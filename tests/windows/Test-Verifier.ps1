<#
.SYNOPSIS
Runs parscan under Driver Verifier: five stages, each with its rules.

.DESCRIPTION
A stage is armed, the machine restarted, and the stage run:

  1  the standard rules
  2  those, invariant MDLs, memory integrity, IRQL of Io, Rtl and Zw calls, and driver isolation
     (rule classes 33, 35 and 36 need Windows 11)
  3  I/O verification with requests that are forced to pend
  4  systematic failure of calls, one for every call stack (Windows 11; needs no restart)
  5  calls that fail at random

Running a stage repeats the scenarios of scenarios.txt: command lines of parscanctl, requests that are
cancelled or whose program ends in the middle, devices that are disabled and enabled, and with -Sleep
a sleep of the machine. It shows how far it is, and at the end shows what Verifier counted. A broken rule stops the machine with
a bug check (0xC4, 0xC9 ...): it restarts, and Verifier is off then (boot mode
resetonunusualshutdown). Get-ParscanLog.ps1 collects what is left of it.

Only for a test machine: every stage can make it crash or lose data.

.PARAMETER Stage
1 to 5.

.PARAMETER Arm
Sets the stage's rules for parscan.sys.

.PARAMETER Run
Runs the scenarios and reports.

.PARAMETER Reset
Turns Driver Verifier off, for all drivers.

.PARAMETER ParscanCtl
Path of parscanctl.exe.

.PARAMETER Rounds
How often the scenarios run. A round takes about two minutes.

.PARAMETER Sleep
Also puts the machine to sleep once in the first round; a timer wakes it after a minute.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Stage 1 -Arm -WhatIf

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Stage 1 -Run -ParscanCtl C:\tools\parscanctl.exe -Rounds 50

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Reset
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory, ParameterSetName = 'Arm')]
    [Parameter(Mandatory, ParameterSetName = 'Run')]
    [ValidateRange(1, 5)] [int] $Stage,
    [Parameter(Mandatory, ParameterSetName = 'Arm')] [switch] $Arm,
    [Parameter(Mandatory, ParameterSetName = 'Run')] [switch] $Run,
    [Parameter(Mandatory, ParameterSetName = 'Reset')] [switch] $Reset,
    [Parameter(Mandatory, ParameterSetName = 'Run')] [string] $ParscanCtl,
    [Parameter(ParameterSetName = 'Run')] [ValidateRange(1, 100000)] [int] $Rounds = 10,
    [Parameter(ParameterSetName = 'Run')] [switch] $Sleep
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

# Of verifier.exe: 0, or 2 when a restart is needed.
$changed = 0, 2

# Rule classes. 1 special pool, 2 IRQL, 4 pool tracking, 5 I/O, 6 deadlocks, 8 DMA, 9 security,
# 12 miscellaneous, 18 DDI compliance: the standard ones. 14, 15 invariant MDLs, 26 code integrity,
# 33 isolation, 35 additional IRQL, 36 DIF; 10 force pending, 3 random and 19 systematic failures.
$arguments = @{
    1 = @('/standard')
    2 = @('/rc') + @(1, 2, 4, 5, 6, 8, 9, 12, 14, 15, 18, 26, 33, 35, 36)
    3 = @('/rc', 5, 10)
    4 = @('/dif', 19, '/now')
    5 = @('/rc', 3)
}

function Restart-Device {
    [CmdletBinding(SupportsShouldProcess)]
    param()
    foreach ($role in 'Port', 'Scanner') {
        $service = ($ParscanPackages | Where-Object { $_.Role -eq $role }).Service
        foreach ($device in Get-ParscanDevice -Role $role | Where-Object { $_.Service -eq $service }) {
            $null = Invoke-Native pnputil.exe @('/restart-device', $device.InstanceId) `
                -Accept $Success, $RestartNeeded
        }
    }
}

# Runs parscanctl; gives its exit code. After so many milliseconds, if any, it is ended: by Ctrl-C,
# at which it cancels its request, or without a word.
function Invoke-Scenario {
    param([string[]] $Words, [int] $After = 0, [switch] $Cancel)
    if ($After -eq 0) {
        & $ParscanCtl @Words | Out-Null
        return $LASTEXITCODE
    }
    $start = New-Object Diagnostics.ProcessStartInfo
    $start.FileName = (Resolve-Path -LiteralPath $ParscanCtl).ProviderPath
    # Words with blanks are in quotation marks; none has one inside.
    $start.Arguments = ($Words | ForEach-Object { if ($_ -match ' ') { "`"$_`"" } else { $_ } }) -join ' '
    $start.UseShellExecute = $false
    $start.RedirectStandardOutput = $true
    $process = [Diagnostics.Process]::Start($start)
    if ($process.WaitForExit($After)) { return $process.ExitCode }
    if ($Cancel) {
        # Every program of this console gets it, but PowerShell does not mind.
        [ParscanConsole]::SetConsoleCtrlHandler([IntPtr]::Zero, $true) | Out-Null
        [ParscanConsole]::GenerateConsoleCtrlEvent(0, 0) | Out-Null
        $ended = $process.WaitForExit(30000)
        [ParscanConsole]::SetConsoleCtrlHandler([IntPtr]::Zero, $false) | Out-Null
        if ($ended) { return $process.ExitCode }
    }
    $process.Kill()
    $process.WaitForExit()
    return $process.ExitCode
}

# Sleeps, with a timer of the task scheduler that wakes the machine after a minute.
function Suspend-Machine {
    $time = (Get-Date).AddMinutes(1)
    $settings = New-ScheduledTaskSettingsSet -WakeToRun -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
    $action = New-ScheduledTaskAction -Execute 'cmd.exe' -Argument '/c exit 0'
    $trigger = New-ScheduledTaskTrigger -Once -At $time
    $null = Register-ScheduledTask -TaskName 'ParscanWake' -Action $action -Trigger $trigger -Settings $settings -Force
    try {
        Add-Type -AssemblyName System.Windows.Forms
        $null = [Windows.Forms.Application]::SetSuspendState('Suspend', $false, $false)
        # It goes on here when the machine is awake.
        while ((Get-Date) -lt $time.AddSeconds(15)) { Start-Sleep -Seconds 5 }
    } finally {
        Unregister-ScheduledTask -TaskName 'ParscanWake' -Confirm:$false
    }
}

switch ($PSCmdlet.ParameterSetName) {
    'Arm' {
        $null = Invoke-Native verifier.exe ($arguments[$Stage] + @('/driver', 'parscan.sys')) -Accept $changed
        if ($Stage -eq 4) {
            $null = Invoke-Native verifier.exe @('/faultssystematic', 'enableruntime') -Accept $changed
        }
        $null = Invoke-Native verifier.exe @('/bootmode', 'resetonunusualshutdown') -Accept $changed
        Write-Output "Restart, then: .\Test-Verifier.ps1 -Stage $Stage -Run -ParscanCtl ..."
    }
    'Reset' {
        $null = Invoke-Native verifier.exe @('/reset') -Accept $changed
    }
    'Run' {
        if (-not (Test-Path -LiteralPath $ParscanCtl)) { throw "$ParscanCtl is not there." }
        $null = Invoke-Native verifier.exe @('/query') -Accept $changed
        $lines = Get-Content -LiteralPath "$PSScriptRoot\scenarios.txt" |
            Where-Object { $_.Trim() -and -not $_.StartsWith('#') }
        $results = @{}
        $file = Join-Path ([IO.Path]::GetTempPath()) 'parscan-scenario.bin'
        $bytes = New-Object byte[] 65536
        (New-Object Random 1).NextBytes($bytes)
        if (-not $WhatIfPreference) {
            [IO.File]::WriteAllBytes($file, $bytes)
            Add-Type -TypeDefinition @'
using System;
using System.Runtime.InteropServices;
public static class ParscanConsole {
    [DllImport("kernel32.dll")] public static extern bool GenerateConsoleCtrlEvent(uint kind, uint group);
    [DllImport("kernel32.dll")] public static extern bool SetConsoleCtrlHandler(IntPtr routine, bool add);
}
'@
        }
        for ($round = 1; $round -le $Rounds; $round++) {
            $number = 0
            foreach ($line in $lines) {
                $number++
                Write-Progress -Activity "Stage $Stage, round $round of $Rounds" -Status $line `
                    -PercentComplete (100 * $number / $lines.Count)
                if (-not $PSCmdlet.ShouldProcess($line, "Round $round")) { continue }
                # Words, of which those in single quotation marks may have blanks.
                $words = @([regex]::Matches($line, "'([^']*)'|(\S+)") | ForEach-Object {
                        ($_.Groups[1].Value + $_.Groups[2].Value).Replace('{file}', $file).Replace('{out}', "$file.out")
                    })
                $code = switch ($words[0]) {
                    '!restart' { Restart-Device; 0 }
                    '!sleep' { if ($Sleep -and $round -eq 1) { Suspend-Machine }; 0 }
                    '!cancel' { Invoke-Scenario -Words @($words | Select-Object -Skip 2) -After $words[1] -Cancel }
                    '!close' { Invoke-Scenario -Words @($words | Select-Object -Skip 2) -After $words[1] }
                    default { Invoke-Scenario -Words $words }
                }
                $key = "${line}: exit code $code"
                $results[$key] = 1 + $(if ($results.ContainsKey($key)) { $results[$key] } else { 0 })
            }
        }
        Write-Progress -Activity 'Stage' -Completed
        # A request may fail: with stages 4 and 5 it has to, now and then. What counts is that the
        # machine still stands and that Verifier has nothing to say.
        $results.GetEnumerator() | Sort-Object -Property Name | Format-Table -AutoSize
        $null = Invoke-Native verifier.exe @('/query') -Accept $changed
    }
}
