// OHIF 3.13 on the node's DICOMweb, which the same server passes on under /dicom-web (site.conf.template).
//
// OHIF reads every TID 1500 report as drawn measurements and ends with "Something went wrong" if there is nothing drawn.
// Reports without coordinates, such as the node's, are shown as text instead.
function hasCoordinates(items) {
  return [].concat(items ?? []).some(item => /^SCOORD/.test(item.ValueType) || hasCoordinates(item.ContentSequence));
}

const reportsAsText = {
  id: 'dicom-node.reports-as-text',
  preRegistration({ servicesManager }) {
    const { displaySetService } = servicesManager.services;
    displaySetService.subscribe(displaySetService.EVENTS.DISPLAY_SETS_ADDED, ({ displaySetsAdded }) => {
      for (const displaySet of displaySetsAdded) {
        if (displaySet.isImagingMeasurementReport && !hasCoordinates(displaySet.instance.ContentSequence)) {
          displaySet.isImagingMeasurementReport = false;
        }
      }
    });
  },
};

window.config = {
  routerBasename: '/',
  extensions: [reportsAsText],
  modes: [],
  customizationService: {},
  showStudyList: true,
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: true,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  defaultDataSourceName: 'node',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'node',
      configuration: {
        friendlyName: 'DICOM node',
        name: 'node',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/dicom-web',
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        qidoSupportsIncludeField: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        enableStudyLazyLoad: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};
